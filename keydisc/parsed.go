package keydisc

import (
	"crypto/sha256"
	"sync"
	"time"
)

// Checking the signatures of certificates is the most expensive thing about opening mail, and the same
// certificates come with every message of a correspondent: what has been made of an input is
// remembered for a while. Not for long, as some signatures hold for a time only.
const (
	parsedFor = 15 * time.Minute
	maxParsed = 256
)

var parsed = parsedInputs{known: map[[sha256.Size]byte]parsedInput{}}

type parsedInputs struct {
	mu    sync.Mutex
	known map[[sha256.Size]byte]parsedInput
}

type parsedInput struct {
	certificates []*Certificate
	until        time.Time
}

// of is what has been made of the input, or what parse makes of it.
func (p *parsedInputs) of(b []byte, parse func([]byte) ([]*Certificate, error)) ([]*Certificate, error) {
	sum, now := sha256.Sum256(b), time.Now()
	p.mu.Lock()
	known, ok := p.known[sum]
	p.mu.Unlock()
	if ok && now.Before(known.until) {
		return known.certificates, nil
	}
	certificates, err := parse(b)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.known) >= maxParsed {
		clear(p.known)
	}
	p.known[sum] = parsedInput{certificates, now.Add(parsedFor)}
	return certificates, nil
}
