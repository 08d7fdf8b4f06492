package main

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/emersion/go-smtp"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/sealpost/sealpost/bridge/bridgetest"
)

// gateway LINE…: configures a gateway for alpha.test between two next hops; each LINE is added to the configuration below [gateway].
func addGateway(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("usage: gateway LINE…")
	}
	w := worldOf(ts)
	for _, hop := range []**bridgetest.NextHop{&w.outHop, &w.inHop} {
		n, err := bridgetest.StartNextHop(bridgetest.NextHopOptions{LMTP: true})
		ts.Check(err)
		w.cleanUp(func() { _ = n.Close() })
		*hop = n
	}
	text := fmt.Sprintf("\n[gateway]\noutbound = \"lmtp://127.0.0.1:0\"\ninbound = \"lmtp://127.0.0.1:0\"\nnext_hop_outbound = \"lmtp://%s\"\nnext_hop_inbound = \"lmtp://%s\"\n",
		w.outHop.Address(), w.inHop.Address())
	text += "domains = [\"alpha.test\"]\n" + strings.Join(args, "\n") + "\n"
	ts.Check(os.WriteFile(ts.Getenv("SEALPOST_CONFIG"), []byte(ts.ReadFile("base.toml")+text), 0o600))
	quickVault(ts)
}

// relay DAEMON outbound|inbound FROM TO[,TO] FILE: an MTA hands in a message; prints an answer for each recipient.
func relay(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 5 {
		ts.Fatalf("usage: relay DAEMON outbound|inbound FROM TO[,TO] FILE")
	}
	found := regexp.MustCompile(`listening gateway-` + args[1] + ` (\S+)`).FindStringSubmatch(ts.ReadFile(args[0] + ".out"))
	if found == nil {
		ts.Fatalf("%s has no such listener", args[0])
	}
	answers, err := lmtpIn(found[1], strings.Trim(args[2], "<>"), strings.Split(args[3], ","), crlf(ts.ReadFile(args[4])))
	ts.Check(err)
	for _, to := range slices.Sorted(maps.Keys(answers)) {
		fmt.Fprintf(ts.Stdout(), "%s: %s\n", to, answers[to])
	}
}

// lmtpIn is an MTA's LMTP client; the answers are by recipient.
func lmtpIn(address, from string, to []string, message []byte) (answers map[string]string, err error) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	c := smtp.NewClientLMTP(conn)
	defer c.Close()
	answers = map[string]string{}
	if err := c.Mail(from, nil); err != nil {
		return nil, err
	}
	for _, address := range to {
		answers[address] = "250"
		if err := c.Rcpt(address, nil); err != nil {
			answers[address] = err.Error()
		}
	}
	w, err := c.Data()
	if err != nil {
		return answers, nil // nobody was accepted
	}
	if _, err := w.Write(message); err != nil {
		return nil, err
	}
	_, err = w.CloseWithLMTPResponse()
	var refused smtp.LMTPDataError
	if err != nil && !errors.As(err, &refused) {
		return nil, err
	}
	for address, reply := range refused {
		answers[address] = fmt.Sprintf("%d %s", reply.Code, reply.Message)
	}
	return answers, nil
}

// relayed outbound|inbound [TO]: what the next hop has got, or what of it somebody.
func relayed(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: relayed outbound|inbound [TO]")
	}
	hop := worldOf(ts).outHop
	if args[0] == "inbound" {
		hop = worldOf(ts).inHop
	}
	for _, r := range hop.Received() {
		if len(args) == 1 || slices.Contains(r.To, args[1]) {
			fmt.Fprintf(ts.Stdout(), "FROM %s TO %s\n%s\n", r.From, strings.Join(r.To, ","), bytes.ReplaceAll(r.Bytes, []byte("\r\n"), []byte("\n")))
		}
	}
}
