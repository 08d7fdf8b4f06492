package pgpmime

import (
	"crypto"
	"io"
	"runtime"
	"strings"
	"testing"

	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"github.com/sealpost/sealpost/bridge/internal/spool"
	"github.com/sealpost/sealpost/bridge/mimescan"
)

// repeated is a message of any size that is nowhere in memory.
type repeated struct {
	head string
	size int64
}

func (r repeated) Size() int64 { return r.size }

func (r repeated) ReadAt(p []byte, off int64) (int, error) {
	if off >= r.size {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), r.size-off)]
	const line = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ!\r\n"
	for i := range p {
		if at := off + int64(i); at < int64(len(r.head)) {
			p[i] = r.head[at]
		} else {
			p[i] = line[(at-int64(len(r.head)))%int64(len(line))]
		}
	}
	return len(p), nil
}

// memoryWatch passes writes on and notes how far the live heap grows meanwhile.
type memoryWatch struct {
	w     io.Writer
	start uint64
	peak  uint64
	next  int64
	n     int64
}

func liveHeap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func (m *memoryWatch) Write(p []byte) (int, error) {
	if m.n += int64(len(p)); m.n >= m.next {
		m.next = m.n + 2<<20
		live := liveHeap()
		m.peak = max(m.peak, live-min(m.start, live))
	}
	return m.w.Write(p)
}

// A large message passes with a few megabytes of memory, there and back.
func TestLargeMessageStreams(t *testing.T) {
	const budget = 2 << 20
	message := repeated{letter[:strings.Index(letter, "\r\n\r\n")+4], 16 << 20}
	dir := t.TempDir()
	sent := spool.New(dir)
	defer sent.Close()
	watch := &memoryWatch{w: sent, start: liveHeap()}
	o := EncryptOptions{Recipients: certs(t, "bob", "alice"), Signer: key(t, "alice"), Time: testNow}
	if err := Encrypt(watch, message, o); err != nil {
		t.Fatal(err)
	}
	if watch.peak > budget {
		t.Errorf("encrypting held %d bytes", watch.peak)
	}
	k := Keys{Decrypters: openpgp.EntityList{key(t, "bob")}}
	watching := &watchedSource{Spool: sent, memoryWatch: &memoryWatch{w: io.Discard, start: liveHeap()}}
	r, err := Open(watching, k, directory(t, "alice"), testNow, dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Message.Close()
	t.Logf("peaks: %d, %d", watch.peak, watching.peak)
	if watching.peak > budget || watching.peak == 0 {
		t.Errorf("opening held %d bytes", watching.peak)
	}
	if r.Signature != SignatureGood {
		t.Errorf("signature is %s", r.Signature)
	}
	h, err := readHead(r.Message)
	if err != nil || r.Message.Size()-h.body != message.size-int64(len(message.head)) {
		t.Errorf("%d bytes of body, %v", r.Message.Size()-h.body, err)
	}
}

// watchedSource notes memory as it is read.
type watchedSource struct {
	*spool.Spool
	*memoryWatch
}

func (w *watchedSource) Write(p []byte) (int, error) { return w.memoryWatch.Write(p) }

func (w *watchedSource) ReadAt(p []byte, off int64) (int, error) {
	n, err := w.Spool.ReadAt(p, off)
	_, _ = w.memoryWatch.Write(p[:n])
	return n, err
}

// FuzzPackets: what a sender puts inside the encryption is hostile, too.
func FuzzPackets(f *testing.F) {
	b := builder{f}
	for _, signers := range [][]string{nil, {"alice"}, {"alice", "mallory"}} {
		f.Add(b.packets("From: alice@alpha.test\r\n\r\nx", 0, signers...))
		f.Add(b.packets("x", 2, signers...))
	}
	dir := directory(f, "alice")
	f.Fuzz(func(t *testing.T, packets []byte) {
		o := &opener{certs: dir, now: testNow, dir: t.TempDir()}
		inside := spooled(t, packets)
		payload, signed, err := o.literal(inside)
		if err != nil {
			return
		}
		defer payload.Close()
		from := sender{address: "alice@alpha.test", all: []string{"alice@alpha.test"}}
		if v := o.verifyInside(inside, from); signed && v.signature == "" || o.err != nil {
			t.Fatalf("no verdict: %+v, %v", v, o.err)
		}
	})
}

// FuzzSigned: a part with a signature beside it.
func FuzzSigned(f *testing.F) {
	part := plain("x\n")
	f.Add(outerHeader + builder{f}.good(part))
	f.Add(outerHeader + builder{f}.signedMIME(part, builder{f}.signature("alice", crypto.SHA512, testNow, part)))
	dir := directory(f, "alice")
	f.Fuzz(func(t *testing.T, message string) {
		r, err := Open(source(message), Keys{}, dir, testNow, t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		if r.Signature == SignatureGood && !strings.Contains(strings.ReplaceAll(message, "\r", ""), strings.ReplaceAll(part, "\r", "")) {
			t.Fatalf("good signature over something else: %q", message)
		}
	})
}

func benchMessage(size int64) mimescan.Source {
	return repeated{letter[:strings.Index(letter, "\r\n\r\n")+4], size}
}

func BenchmarkEncrypt(b *testing.B) {
	o := EncryptOptions{Recipients: certs(b, "bob", "alice"), Signer: key(b, "alice"), Time: testNow}
	b.SetBytes(10 << 10)
	for b.Loop() {
		if err := Encrypt(io.Discard, benchMessage(10<<10), o); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	sent := encrypted(b, content(b, spooledSource(b, benchMessage(10<<10))), EncryptOptions{Recipients: certs(b, "bob"), Signer: key(b, "alice")})
	k, dir, folder := Keys{Decrypters: openpgp.EntityList{key(b, "bob")}}, directory(b, "alice"), b.TempDir()
	b.SetBytes(int64(len(sent)))
	for b.Loop() {
		r, err := Open(source(sent), k, dir, testNow, folder)
		if err != nil || r.Signature != SignatureGood {
			b.Fatal(r, err)
		}
		_ = r.Message.Close()
	}
}

func spooledSource(t testing.TB, src mimescan.Source) *spool.Spool {
	t.Helper()
	s, err := spool.FromReader(t.TempDir(), whole(src), 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}
