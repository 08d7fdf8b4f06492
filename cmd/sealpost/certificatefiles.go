package main

import (
	"crypto/tls"
	"os"
	"sync"
	"time"
)

// certificateFiles is a TLS certificate in files that somebody else renews. Safe for concurrent use.
type certificateFiles struct {
	certificate, key string

	mu      sync.Mutex
	current *tls.Certificate
	of      time.Time // when the file was written that current is from
}

// get is a tls.Config's GetCertificate: the files are read again when they have changed. What cannot be read leaves the one that was.
func (f *certificateFiles) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	info, err := os.Stat(f.certificate)
	if err == nil && f.current != nil && info.ModTime().Equal(f.of) {
		return f.current, nil
	}
	var fresh tls.Certificate
	if err == nil {
		fresh, err = tls.LoadX509KeyPair(f.certificate, f.key)
	}
	if err != nil {
		if f.current != nil {
			return f.current, nil
		}
		return nil, err
	}
	f.current, f.of = &fresh, info.ModTime()
	return f.current, nil
}
