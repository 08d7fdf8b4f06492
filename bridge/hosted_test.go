package bridge

import (
	"fmt"
	"strings"
	"sync"
	"testing"
)

// TestFirstKeyIsMadeOnce: many messages of a new user at once.
func TestFirstKeyIsMadeOnce(t *testing.T) {
	c := newCompany(t, lmtp)
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			c.leave(Envelope{From: erin, To: []string{bob}}, message(erin, bob, fmt.Sprint("first ", i), secretBody), true)
		})
	}
	all.Wait()
	ring, err := c.gateway.users.ring(t.Context(), erin)
	if err != nil || len(ring.List()) != 1 {
		t.Errorf("erin has %d keys, %v", len(ring.List()), err)
	}
	if got := len(c.out.For(bob)); got != 20 {
		t.Errorf("%d messages were sent", got)
	}
}

// TestFirstKeyIsEverybodys who has asked for it, whichever was faster to find that there is none.
func TestFirstKeyIsEverybodys(t *testing.T) {
	c := newCompany(t, lmtp)
	var all sync.WaitGroup
	for i := range 40 {
		user := fmt.Sprintf("user%d@alpha.test", i/4)
		all.Go(func() {
			if ring, err := c.gateway.users.sending(t.Context(), user); err != nil || len(ring.List()) != 1 {
				t.Errorf("%s has no key: %v", user, err)
			}
		})
	}
	all.Wait()
}

// TestKeysMadeElsewhereOpenAtOnce: what is delivered closed stays so.
func TestKeysMadeElsewhereOpenAtOnce(t *testing.T) {
	c := newCompany(t, lmtp)
	other := newHosted(c.bridge)
	for number := range 2 {
		_ = c.userKey(alice) // the gateway has seen its keys
		elsewhere, err := other.owner(t.Context(), alice)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := elsewhere.GenerateKey(t.Context(), ProfileCompatible, true); err != nil {
			t.Fatal(err)
		}
		certificate, err := elsewhere.Certificate()
		if err != nil {
			t.Fatal(err)
		}
		c.inside.Forget()
		c.enter(Envelope{From: bob, To: []string{alice}}, c.encryptedBy(message(bob, alice, fmt.Sprint("new ", number), secretBody), certificate), true)
		if got := string(c.inside.For(alice)[0]); !strings.Contains(got, secretBody) {
			t.Errorf("delivered closed: %.300s", got)
		}
	}
}
