//go:build peers

package main_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"github.com/sealpost/sealpost/bridge/bridgetest"
	"github.com/sealpost/sealpost/bridge/bridgetest/peers"
	"github.com/sealpost/sealpost/keydisc"
)

// cluster is three gateways that share a database, behind a balancer, between two next hops.
type cluster struct {
	*testing.T
	database    *peers.Postgres
	out, inside *bridgetest.NextHop
	gateways    []*member
	next        atomic.Int64 // of the balancer

	mu     sync.Mutex
	unsure map[string]int // deliveries of which nobody can say whether they happened, by message and recipient
}

// member is one gateway.
type member struct {
	*user
	outbound, inbound, watch string // ports
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{T: t, database: peers.StartPostgresServer(t), unsure: map[string]int{}}
	for _, hop := range []**bridgetest.NextHop{&c.out, &c.inside} {
		n, err := bridgetest.StartNextHop(bridgetest.NextHopOptions{LMTP: true})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = n.Close() })
		*hop = n
	}
	for i := range 3 {
		c.gateways = append(c.gateways, c.member(i))
	}
	return c
}

func (c *cluster) member(i int) *member {
	c.Helper()
	program, err := binary()
	if err != nil {
		c.Fatal(err)
	}
	ports := peers.FreePorts(c.T, 3)
	m := &member{&user{site: &site{t: c.T, program: program}, address: fmt.Sprint("gateway ", i), home: c.TempDir(), log: &bytes.Buffer{}}, ports[0], ports[1], ports[2]}
	(&company{user: m.user}).gatewayConfig(fmt.Sprintf(`[database]
url = "%s"
[gateway]
domains = ["alpha.test"]
outbound = "lmtp://127.0.0.1:%s"
inbound = "lmtp://127.0.0.1:%s"
next_hop_outbound = "lmtp://%s"
next_hop_inbound = "lmtp://%s"
`, c.database.URL, m.outbound, m.inbound, c.out.Address(), c.inside.Address()))
	m.replace("[local]\n", "[local]\nmetrics = \"127.0.0.1:"+m.watch+"\"\n")
	return m
}

// replace changes the configuration.
func (m *member) replace(old, with string) {
	m.t.Helper()
	text, err := os.ReadFile(m.path(".config/sealpost/config.toml"))
	if err != nil {
		m.t.Fatal(err)
	}
	m.write(".config/sealpost/config.toml", strings.Replace(string(text), old, with, 1))
}

// keydata is an address's certificate as Autocrypt has it.
func keydata(t *testing.T, address string) string {
	t.Helper()
	certificates, err := keydisc.ParseCertificates(bridgetest.PublicKey(address))
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(certificates[0].Bytes())
}

// startAll starts all at the same moment.
func (c *cluster) startAll() {
	var all sync.WaitGroup
	for _, m := range c.gateways {
		all.Go(m.launch)
	}
	all.Wait()
}

// balancer connects to the next gateway that takes connections.
func (c *cluster) balancer(lane func(*member) string) net.Conn {
	for {
		m := c.gateways[int(c.next.Add(1))%len(c.gateways)]
		conn, err := net.DialTimeout("tcp", "127.0.0.1:"+lane(m), time.Second)
		if err == nil {
			return conn
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func outboundLane(m *member) string { return m.outbound }
func inboundLane(m *member) string  { return m.inbound }

// deliver is what an MTA does with a message: again and again, until each recipient has an answer that is final.
func (c *cluster) deliver(lane func(*member) string, id, from string, to []string, message string) {
	for deadline := time.Now().Add(3 * time.Minute); len(to) > 0; {
		if time.Now().After(deadline) {
			c.Errorf("message %s does not get to %v", id, to)
			return
		}
		to = c.try(lane, id, from, to, message)
	}
}

// try is one attempt; it returns who has no final answer yet.
func (c *cluster) try(lane func(*member) string, id, from string, to []string, message string) (left []string) {
	conn := c.balancer(lane)
	client := smtp.NewClientLMTP(conn)
	defer client.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	if err := client.Mail(from, nil); err != nil {
		return to
	}
	for _, address := range to {
		if err := client.Rcpt(address, nil); err != nil {
			return to
		}
	}
	w, err := client.Data()
	if err != nil {
		return to
	}
	_, err = w.Write([]byte(message))
	if err != nil {
		return c.lost(id, to)
	}
	accepted, err := w.CloseWithLMTPResponse()
	var refused smtp.LMTPDataError
	if err != nil && !errors.As(err, &refused) {
		return c.lost(id, to)
	}
	for _, address := range to {
		switch reply := refused[address]; {
		case accepted[address] != nil:
		case reply == nil:
			left = append(left, c.lost(id, []string{address})...)
		case reply.Code/100 == 5:
			c.Errorf("message %s for %s: %v", id, address, reply)
		default:
			left = append(left, address)
		}
	}
	return left
}

// lost notes that the connection broke before the answer.
func (c *cluster) lost(id string, to []string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, address := range to {
		c.unsure[id+" "+address]++
	}
	return to
}

const (
	clusterMessages = 1500
	clusterUsers    = 150
)

func clusterUser(i int) string { return fmt.Sprintf("user%d@alpha.test", i%clusterUsers) }

// load sends all messages, some at a time: what leaves, and now and then what comes in with a sender's certificate.
func (c *cluster) load() {
	numbers := make(chan int)
	var workers sync.WaitGroup
	for range 8 {
		workers.Go(func() {
			for i := range numbers {
				from, id := clusterUser(i), fmt.Sprintf("<%d@alpha.test>", i)
				to := [][]string{{bob}, {bob, frank}, {frank}}[i%3]
				c.deliver(outboundLane, id, from, to, clusterMessage(from, strings.Join(to, ", "), id, ""))
				if i%5 == 0 {
					id := fmt.Sprintf("<in-%d@charlie.test>", i)
					c.deliver(inboundLane, id, carol, []string{from}, clusterMessage(carol, from, id, "Autocrypt: addr="+carol+"; keydata="+keydata(c.T, carol)+"\r\n"))
				}
			}
		})
	}
	for i := range clusterMessages {
		numbers <- i
	}
	close(numbers)
	workers.Wait()
}

func clusterMessage(from, to, id, more string) string {
	return "From: " + from + "\r\nTo: " + to + "\r\nSubject: the harvest\r\nMessage-ID: " + id + "\r\nDate: Mon, 23 Nov 2026 10:00:00 +0000\r\n" + more + "\r\nmarmalade\r\n"
}

// TestThreeGatewaysDieInTurn: under load each of them is killed twice. Nothing is lost; twice comes only what nobody could
// know to have come; each user has one key; pins and the log are whole.
func TestThreeGatewaysDieInTurn(t *testing.T) {
	c := newCluster(t)
	c.startAll()
	(&company{user: c.gateways[0].user}).know(bob)
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.load()
	}()
	kills := 0
	for alive := true; alive; {
		m := c.gateways[kills%3]
		select {
		case <-done:
			alive = false
			continue
		case <-time.After(500 * time.Millisecond):
		}
		_ = m.daemon.Process.Signal(syscall.SIGKILL)
		_ = m.daemon.Wait()
		m.daemon = nil
		kills++
		m.launch()
	}
	t.Logf("%d kills, %d answers lost", kills, len(c.unsure))
	if kills < 6 {
		t.Errorf("only %d kills: the load was too short", kills)
	}
	c.checkDeliveries()
	c.checkKeys()
	c.checkLog()
	one := c.gateways[1]
	if out := one.must("outbox", "list"); strings.TrimSpace(out) != "" {
		t.Errorf("the outbox holds %s", out)
	}
	one.must("backup", "create", "--out", one.path("backup"))
	var contacts []struct{ Address, Fingerprint, Trust string }
	if err := json.Unmarshal([]byte(one.must("contact", "list", "--json")), &contacts); err != nil {
		t.Fatal(err)
	}
	for _, address := range []string{bob, carol} {
		i := slices.IndexFunc(contacts, func(c struct{ Address, Fingerprint, Trust string }) bool { return c.Address == address })
		if i < 0 || contacts[i].Trust == "changed" || len(contacts) != 2 {
			t.Errorf("contacts: %v", contacts)
		}
	}
}

var messageID = regexp.MustCompile(`(?m)^Message-ID: (<[^>]+>)\r$`)

func (c *cluster) checkDeliveries() {
	c.Helper()
	got := map[string]int{}
	for _, r := range slices.Concat(c.out.Received(), c.inside.Received()) {
		found := messageID.FindSubmatch(r.Bytes)
		if found == nil {
			c.Fatalf("a message without a Message-ID: %s", r.Bytes)
		}
		for _, to := range r.To {
			got[string(found[1])+" "+to]++
		}
		if slices.Contains(r.To, bob) && (len(r.To) > 1 || bytes.Contains(r.Bytes, []byte("marmalade"))) {
			c.Errorf("in clear to %v: %s", r.To, r.Bytes)
		}
	}
	for i := range clusterMessages {
		for _, to := range [][]string{{bob}, {bob, frank}, {frank}}[i%3] {
			c.came(got, fmt.Sprintf("<%d@alpha.test> %s", i, to))
		}
		if i%5 == 0 {
			c.came(got, fmt.Sprintf("<in-%d@charlie.test> %s", i, clusterUser(i)))
		}
	}
}

func (c *cluster) came(got map[string]int, what string) {
	if got[what] == 0 {
		c.Errorf("%s was lost", what)
	}
	if more := got[what] - 1; more > c.unsure[what] {
		c.Errorf("%s came %d times, with %d answers lost", what, got[what], c.unsure[what])
	}
}

func (c *cluster) checkKeys() {
	c.Helper()
	var keys []struct {
		Addresses []string
		Primary   bool
	}
	if err := json.Unmarshal([]byte(c.gateways[2].must("key", "list", "--json")), &keys); err != nil {
		c.Fatal(err)
	}
	have := map[string]int{}
	for _, k := range keys {
		have[k.Addresses[0]]++
		if !k.Primary {
			c.Errorf("%v has a key that is not in use", k.Addresses)
		}
	}
	if len(have) != clusterUsers || len(keys) != clusterUsers {
		c.Errorf("%d users have %d keys", len(have), len(keys))
	}
	field := regexp.MustCompile(`(?s)Autocrypt: addr=(\S+); .*?keydata=(.*?)\r\n\S`)
	signed := map[string]string{}
	for _, m := range c.out.For(bob) {
		f := field.FindSubmatch(m)
		if f == nil {
			c.Fatalf("a message without its author's certificate: %s", m)
		}
		if before, ok := signed[string(f[1])]; ok && before != string(f[2]) {
			c.Errorf("%s writes with two certificates", f[1])
		}
		signed[string(f[1])] = string(f[2])
	}
}

func (c *cluster) checkLog() {
	c.Helper()
	c.gateways[0].must("log", "verify")
	logged := map[string]bool{}
	for line := range strings.Lines(c.gateways[0].must("log", "--json")) {
		var e struct {
			MessageID string `json:"message_id"`
			Recipient string
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			c.Fatal(err)
		}
		logged[e.MessageID+" "+e.Recipient] = true
	}
	for i := range clusterMessages {
		for _, to := range [][]string{{bob}, {bob, frank}, {frank}}[i%3] {
			if what := fmt.Sprintf("<%d@alpha.test> %s", i, to); !logged[what] {
				c.Errorf("the log says nothing of %s", what)
			}
		}
	}
}

// TestGatewaysWithoutTheirDatabase: while it is away nothing is taken and nothing leaves; when it is back all goes on.
func TestGatewaysWithoutTheirDatabase(t *testing.T) {
	c := newCluster(t)
	c.startAll()
	(&company{user: c.gateways[0].user}).know(bob)
	m := c.gateways[0]
	if got := ready(t, m); got != http.StatusOK {
		t.Fatalf("/readyz says %d", got)
	}
	c.database.Stop()
	if got := ready(t, m); got != http.StatusServiceUnavailable {
		t.Errorf("/readyz says %d without a database", got)
	}
	for _, to := range []string{bob, frank} {
		if left := c.try(func(*member) string { return m.outbound }, "<1@alpha.test>", alice, []string{to}, clusterMessage(alice, to, "<1@alpha.test>", "")); len(left) != 1 {
			t.Errorf("a message for %s was taken", to)
		}
	}
	if n := len(c.out.Received()); n > 0 {
		t.Errorf("%d messages left", n)
	}
	c.database.Start()
	c.deliver(outboundLane, "<1@alpha.test>", alice, []string{bob, frank}, clusterMessage(alice, bob, "<1@alpha.test>", ""))
	if len(c.out.For(bob)) != 1 || len(c.out.For(frank)) != 1 {
		t.Errorf("received %v", c.out.Received())
	}
	for range 100 {
		if ready(t, m) == http.StatusOK {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Error("/readyz still says no")
}

func ready(t *testing.T, m *member) int {
	t.Helper()
	r, err := http.Get("http://127.0.0.1:" + m.watch + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	_ = r.Body.Close()
	return r.StatusCode
}
