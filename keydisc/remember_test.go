package keydisc

import (
	"fmt"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// What is remembered of a certificate is, around every moment at which something of it begins or ends, what a certificate of which
// nothing is remembered says. In one order and in the other: go-crypto's own memory would be right in one of them only.
func TestRememberedIsTrue(t *testing.T) {
	begin := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	config := &packet.Config{
		Algorithm: packet.PubKeyAlgoEdDSA, KeyLifetimeSecs: 1000, Time: func() time.Time { return begin },
	}
	c := generated(t, config)
	if len(c.turns) < 4 {
		t.Fatalf("turns %v: the beginning and the end must be there", c.turns)
	}
	var times []time.Time
	for _, turn := range c.turns {
		for _, off := range []time.Duration{-time.Second, -time.Nanosecond, 0, time.Second - 1, time.Second} {
			times = append(times, time.Unix(turn, 0).Add(off))
		}
	}
	for i := range times {
		times = append(times, times[len(times)-1-2*i])
	}
	answers := map[string]bool{}
	for _, at := range times {
		got, want := fmt.Sprint(c.Check(c.addresses[0], at)), fmt.Sprint(forgotten(t, c).check(c.addresses[0], at))
		if got != want {
			t.Errorf("at %v it says %s, anew %s", at, got, want)
		}
		answers[got] = true
		if again := fmt.Sprint(c.Check(c.addresses[0], at)); again != got {
			t.Errorf("at %v it says %s, then %s", at, got, again)
		}
	}
	if len(answers) < 3 {
		t.Errorf("only %v: not yet, usable and expired should be among it", answers)
	}
}

// forgotten is the same certificate with nothing remembered.
func forgotten(t *testing.T, c *Certificate) *Certificate {
	t.Helper()
	e, err := c.Entity()
	if err != nil {
		t.Fatal(err)
	}
	fresh, err := fromEntity(e)
	if err != nil {
		t.Fatal(err)
	}
	return fresh
}

func TestRememberAsksOncePerEpoch(t *testing.T) {
	c := generated(t, &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA, KeyLifetimeSecs: 1000})
	asked := 0
	ask := func(at time.Time, question string) {
		if err := Remember(c, at, question, func() error { asked++; return nil }); err != nil {
			t.Fatal(err)
		}
	}
	now := c.created.Add(time.Minute)
	ask(now, "a")
	ask(now.Add(time.Second), "a")
	if asked != 1 {
		t.Errorf("asked %d times within an epoch", asked)
	}
	ask(now, "b")
	ask(c.expires.Add(time.Minute), "a")
	ask(time.Time{}, "a")
	ask(time.Time{}, "a")
	if asked != 5 {
		t.Errorf("asked %d times, not anew for another question, another epoch, and no time", asked)
	}
}

// Lent copies go back, and are another epoch's never.
func TestBorrowToEncrypt(t *testing.T) {
	c := generated(t, &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA, KeyLifetimeSecs: 1000})
	now := c.created.Add(time.Minute)
	first, giveBack, err := c.BorrowToEncrypt(now)
	if err != nil {
		t.Fatal(err)
	}
	if second, _, _ := c.BorrowToEncrypt(now); second == first {
		t.Error("one copy is lent to two")
	}
	giveBack()
	if later, _, _ := c.BorrowToEncrypt(c.expires.Add(time.Minute)); later == first {
		t.Error("a copy is lent in another epoch")
	}
}
