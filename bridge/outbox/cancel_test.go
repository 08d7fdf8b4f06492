package outbox

import (
	"context"
	"errors"
	"reflect"
	"testing"
)

func TestCancel(t *testing.T) {
	r := newTestRig(t)
	waiting := r.add(t, []byte("one"), "bob@bravo.test", "carol@charlie.test")
	r.add(t, []byte("two"), "dave@delta.test")
	got, err := r.Cancel(t.Context(), waiting.ID)
	if err != nil || !reflect.DeepEqual(got.To, waiting.To) || got.Account != waiting.Account || got.MessageID != waiting.MessageID {
		t.Fatalf("%+v %v", got, err)
	}
	if left := r.list(t); len(left) != 1 || left[0].To[0] != "dave@delta.test" || countBodies(t, r) != 1 {
		t.Errorf("left: %+v, %d chunks", left, countBodies(t, r))
	}
	for _, id := range []int64{waiting.ID, 99} {
		if _, err := r.Cancel(t.Context(), id); !errors.Is(err, ErrNotQueued) {
			t.Errorf("%d: %v", id, err)
		}
	}
	defer r.start(t)()
	eventually(t, "the other is delivered", r.empty(t))
	if sent, bounces := r.counts(); sent != 1 || bounces != 0 {
		t.Errorf("%d deliveries, %d bounces", sent, bounces)
	}
}

// While a message is with the provider nobody can say that it was cancelled, nor afterwards.
func TestCancelDuringDelivery(t *testing.T) {
	r := newTestRig(t)
	begun, goOn := make(chan struct{}), make(chan struct{})
	r.submit = func(ctx context.Context, m Message, b *body) error {
		close(begun)
		<-goOn
		return r.deliver(ctx, m, b)
	}
	m := r.add(t, []byte("one"), "bob@bravo.test")
	defer r.start(t)()
	<-begun
	if _, err := r.Cancel(t.Context(), m.ID); !errors.Is(err, ErrBusy) {
		t.Errorf("during the delivery: %v", err)
	}
	close(goOn)
	eventually(t, "it is delivered", r.empty(t))
	eventually(t, "it is known as delivered", func() bool {
		_, err := r.Cancel(t.Context(), m.ID)
		return errors.Is(err, ErrNotQueued)
	})
}

// The provider has it, and the disk was too full to forget it.
func TestCancelDelivered(t *testing.T) {
	r := newTestRig(t)
	m := r.add(t, []byte("one"), "bob@bravo.test")
	r.Outbox.mu.Lock()
	r.delivered[m.ID] = true
	r.Outbox.mu.Unlock()
	if _, err := r.Cancel(t.Context(), m.ID); !errors.Is(err, ErrNotQueued) {
		t.Errorf("%v", err)
	}
}
