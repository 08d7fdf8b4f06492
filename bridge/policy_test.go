package bridge

import (
	"bufio"
	"os"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestPolicyTruthTable(t *testing.T) {
	f, err := os.Open("testdata/policy.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cases := 0
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		cases++
		columns := strings.Split(line, "|")
		verdicts := parsePolicy(columns[0]).Decide(parseMessage(t, columns[1]), parseRecipients(t, columns[2]))
		if got, want := describe(verdicts), strings.Join(strings.Fields(columns[3]), " "); got != want {
			t.Errorf("%s\n got %s\nwant %s", line, got, want)
		}
	}
	if cases < 30 {
		t.Fatalf("only %d cases read", cases)
	}
}

func parsePolicy(s string) Policy {
	words := strings.Fields(s)
	p := Policy{AllowSplit: words[1] == "split"}
	if words[0] != "unset" {
		p.Default = Mode(words[0])
	}
	for _, rule := range words[2:] {
		if rule == "fixed" {
			p.Fixed = true
			continue
		}
		parts := strings.Split(rule, ":")
		r := Rule{Match: parts[0], Encrypt: Mode(parts[1]), Fixed: len(parts) > 2}
		if from, to, ok := strings.Cut(r.Match, ">"); ok {
			r.From, r.Match = from, to
		}
		p.Rules = append(p.Rules, r)
	}
	return p
}

func parseMessage(t *testing.T, s string) MessageFacts {
	m := MessageFacts{From: "me@own"}
	switch words := strings.TrimSpace(s); words {
	case "-":
	case "force-require":
		m.Force = ForceRequire
	case "force-clear":
		m.Force = ForceClear
	case "reply":
		m.RepliesToEncrypted = true
	case "ciphertext":
		m.Ciphertext = true
	case "camera":
		m.Device = "camera"
	case "camera-force-clear":
		m.Device, m.Force = "camera", ForceClear
	case "foreign":
		m.From, m.Foreign = "them@elsewhere", true
	case "foreign-reply":
		m.From, m.Foreign, m.RepliesToEncrypted = "them@elsewhere", true, true
	case "foreign-force-require":
		m.From, m.Foreign, m.Force = "them@elsewhere", true, ForceRequire
	case "report":
		m.From, m.Report, m.Foreign = "MAILER-DAEMON@own", true, true
	case "bulk":
		m.Bulk = true
	case "bulk-reply":
		m.Bulk, m.RepliesToEncrypted = true, true
	case "as-boss":
		m.From = "Boss@own"
	default:
		t.Fatalf("unknown message %q", s)
	}
	return m
}

func parseRecipients(t *testing.T, s string) []RecipientFacts {
	var recipients []RecipientFacts
	for _, word := range strings.Fields(s) {
		address, facts, _ := strings.Cut(word, "=")
		r := RecipientFacts{Address: address}
		switch facts {
		case "cert":
			r.Usable, r.Ever, r.Conclusive = true, true, true
		case "none":
			r.Conclusive = true
		case "lost":
			r.Ever, r.Conclusive = true, true
		case "fogged":
			r.Ever = true
		case "changed":
			r.Problem, r.Ever, r.Conclusive = ReasonCertificate, true, true
		case "inside":
			r.Inside = true
		case "inside-cert":
			r.Inside, r.Usable, r.Ever, r.Conclusive = true, true, true, true
		case "blocked":
			r.Blocked, r.Ever, r.Conclusive = true, true, true
		case "unknown":
		default:
			t.Fatalf("unknown facts %q", facts)
		}
		recipients = append(recipients, r)
	}
	return recipients
}

func describe(verdicts []Verdict) string {
	var words []string
	for _, v := range verdicts {
		word := v.Decision.String()
		if v.Decision == Refuse {
			word += ":" + string(v.Reason)
		}
		words = append(words, word)
	}
	return strings.Join(words, " ")
}

// Whatever the facts: clear text only ever follows from a mode that allows it, never for
// a recipient with a problem or without a definite answer, and each decision has its rule or reason.
func TestPolicyFailsClosed(t *testing.T) {
	modes := []Mode{"", Require, Prefer, Never, "nonsense"}
	rapid.Check(t, func(t *rapid.T) {
		p := Policy{Default: rapid.SampledFrom(modes).Draw(t, "default"), AllowSplit: rapid.Bool().Draw(t, "split")}
		m := MessageFacts{
			Force:              rapid.SampledFrom([]Force{"", ForceRequire, ForceClear}).Draw(t, "force"),
			RepliesToEncrypted: rapid.Bool().Draw(t, "reply"),
		}
		r := RecipientFacts{
			Address: "a@x", Usable: rapid.Bool().Draw(t, "usable"), Ever: rapid.Bool().Draw(t, "ever"), Conclusive: rapid.Bool().Draw(t, "conclusive"),
			Problem: rapid.SampledFrom([]Reason{"", ReasonCertificate}).Draw(t, "problem"), Blocked: rapid.Bool().Draw(t, "blocked"),
		}
		v := p.Decide(m, []RecipientFacts{r})[0]
		asked := m.Force == ForceClear || (p.Default == Never && m.Force == ForceNothing)
		mayBeClear := p.Default == Prefer && m.Force == ForceNothing && !r.Usable && !r.Ever && r.Conclusive && r.Problem == ""
		if v.Decision == Cleartext && (m.RepliesToEncrypted || (!asked && !mayBeClear)) {
			t.Fatalf("clear text for %+v %+v %+v", p, m, r)
		}
		if r.Blocked && v.Decision != Refuse {
			t.Fatalf("something goes to a blocked address: %+v", v)
		}
		if v.Decision == Encrypt && !r.Usable {
			t.Fatalf("encrypt without a certificate: %+v", r)
		}
		if (v.Decision == Refuse) != (v.Reason != "") || (v.Decision != Refuse && v.Rule == "") {
			t.Fatalf("decision without a name: %+v", v)
		}
	})
}

func TestOverall(t *testing.T) {
	for _, c := range []struct {
		decisions []Decision
		want      Decision
	}{
		{nil, Refuse},
		{[]Decision{Encrypt}, Encrypt},
		{[]Decision{Encrypt, Cleartext, Encrypt}, Cleartext},
		{[]Decision{Cleartext, Refuse}, Refuse},
		{[]Decision{Encrypt, 0}, Refuse},
	} {
		var verdicts []Verdict
		for _, d := range c.decisions {
			verdicts = append(verdicts, Verdict{Decision: d})
		}
		if got := Overall(verdicts); got != c.want {
			t.Errorf("Overall(%v) = %v, want %v", c.decisions, got, c.want)
		}
	}
}
