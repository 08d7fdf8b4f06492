package keydisc

import (
	"context"
	"net"
	"net/http"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// zone answers DNS queries by name and type; what is not in it does not exist.
type zone map[string]dnsmessage.RCode

const silent dnsmessage.RCode = 0xffff // no answer: the query gets lost

// resolver asks the zone over a loopback socket.
func (z zone) resolver(t *testing.T) *net.Resolver {
	t.Helper()
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() {
		_ = server.Close()
		<-done
	})
	go func() {
		defer close(done)
		for buffer := make([]byte, 1500); ; {
			n, from, err := server.ReadFrom(buffer)
			if err != nil {
				return
			}
			if reply := z.reply(buffer[:n]); reply != nil {
				_, _ = server.WriteTo(reply, from)
			}
		}
	}()
	r := strictResolver()
	r.Dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", server.LocalAddr().String())
	}
	return r
}

func (z zone) reply(query []byte) []byte {
	var m dnsmessage.Message
	if m.Unpack(query) != nil || len(m.Questions) != 1 {
		return nil
	}
	q := m.Questions[0]
	m.Additionals, m.Response, m.RecursionAvailable = nil, true, true
	code, ok := z[q.Name.String()+" "+q.Type.String()]
	switch {
	case !ok:
		m.RCode = dnsmessage.RCodeNameError
	case code == silent:
		return nil
	default:
		m.RCode = code
	}
	reply, err := m.Pack()
	if err != nil {
		return nil
	}
	return reply
}

// Only a name without address leads to the direct method, and only both without one mean "there is none".
func TestFindByDNS(t *testing.T) {
	const advanced, direct = "openpgpkey.example.com. ", "example.com. "
	for name, c := range map[string]struct {
		zone       zone
		directHost bool // the direct host is there
		found      int
		conclusive bool
	}{
		"direct":                        {zone{}, true, 1, true},
		"advanced host without address": {zone{advanced + "TypeA": 0, advanced + "TypeAAAA": 0}, true, 1, true},
		"neither":                       {zone{}, false, 0, true},
		"advanced: server failure":      {zone{advanced + "TypeA": dnsmessage.RCodeServerFailure, advanced + "TypeAAAA": dnsmessage.RCodeServerFailure}, true, 0, false},
		"advanced: half a failure":      {zone{advanced + "TypeA": dnsmessage.RCodeServerFailure, advanced + "TypeAAAA": 0}, true, 0, false},
		"advanced: the other half":      {zone{advanced + "TypeA": 0, advanced + "TypeAAAA": dnsmessage.RCodeServerFailure}, true, 0, false},
		"advanced: refused":             {zone{advanced + "TypeA": dnsmessage.RCodeRefused, advanced + "TypeAAAA": dnsmessage.RCodeRefused}, true, 0, false},
		"advanced: time-out":            {zone{advanced + "TypeA": silent, advanced + "TypeAAAA": silent}, true, 0, false},
		"advanced: half a time-out":     {zone{advanced + "TypeA": silent, advanced + "TypeAAAA": 0}, true, 0, false},
		"direct: server failure":        {zone{direct + "TypeA": dnsmessage.RCodeServerFailure, direct + "TypeAAAA": 0}, false, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			good := exampleCertificate(t)
			w := serve(t, func(rw http.ResponseWriter, r *http.Request) {
				if r.Host != "example.com" || r.URL.Path != "/.well-known/openpgpkey/hu/"+WKDHash("bob") {
					t.Errorf("asked for %s%s", r.Host, r.URL.Path)
				}
				_, _ = rw.Write(good.Bytes())
			})
			resolve := map[string]string{}
			if c.directHost {
				resolve["example.com:443"] = w.Listener.Addr().String()
			}
			f := w.finder(t, resolve, WKD)
			f.web.resolver = c.zone.resolver(t)
			answer := f.Find(t.Context(), "bob@example.com")
			if len(answer.Found) != c.found || answer.Conclusive != c.conclusive {
				t.Errorf("%+v", answer)
			}
		})
	}
}
