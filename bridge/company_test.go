package bridge

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/sealpost/sealpost/keydisc"
)

func TestCompanyTruthTable(t *testing.T) {
	f, err := os.Open("testdata/company.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var base Regime
	var company Company
	name, asked := "", 0
	for lines := bufio.NewScanner(f); lines.Scan(); {
		word, rest, _ := strings.Cut(lines.Text(), " ")
		switch word {
		case "", "#":
		case "company":
			name, base, company = rest, Regime{}, Company{}
		case "base":
			base.Policy = parsePolicy(rest)
		case "ask":
			asked++
			question, want, _ := strings.Cut(rest, " = ")
			if got := company.answer(base, strings.Fields(question)); got != want {
				t.Errorf("%s: %s\n got %s\nwant %s", name, rest, got, want)
			}
		default:
			company.add(word, strings.Fields(rest))
		}
	}
	if asked < 25 {
		t.Fatalf("only %d questions read", asked)
	}
}

func (c *Company) add(kind string, words []string) {
	g := PolicyGroup{PolicyLevel: PolicyLevel{Name: words[0]}}
	for _, word := range words[1:] {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "members":
			g.Members = strings.Split(value, ",")
		case "encrypt":
			g.Encrypt = Mode(value)
		case "mixed":
			g.Mixed = Mixture(value)
		case "fixed":
			g.Fixed = true
		case "headers":
			g.Headers = HeaderMode(value)
		case "archive":
			g.Archive = append(g.Archive, &keydisc.Certificate{})
		default:
			g.Rules = append(g.Rules, parsePolicy("unset split "+word).Rules...)
		}
	}
	switch kind {
	case "domain":
		c.Domains = append(c.Domains, g.PolicyLevel)
	case "group":
		c.Groups = append(c.Groups, g)
	case "user":
		c.Users = append(c.Users, g.PolicyLevel)
	default:
		panic(kind)
	}
}

func (c Company) answer(base Regime, question []string) string {
	r := c.For(base, question[0])
	if len(question) == 2 {
		mode, rule := r.modeFor(MessageFacts{From: question[0]}, question[1])
		return fmt.Sprintf("%s (%s)", mode, rule)
	}
	mixed, headers := "refuse", r.Headers
	if r.AllowSplit {
		mixed = "split"
	}
	if headers == "" {
		headers = "-"
	}
	return fmt.Sprintf("%s %s %d", mixed, headers, len(r.Archive))
}

// TestNothingLoosensWhatIsFixed: whatever levels are added below a fixed one, nobody gets a weaker mode.
func TestNothingLoosensWhatIsFixed(t *testing.T) {
	modes := rapid.SampledFrom([]Mode{Require, Prefer, Never})
	rule := rapid.Custom(func(t *rapid.T) Rule {
		return Rule{Match: rapid.SampledFrom([]string{"a@x.test", "x.test", "y.test", "*"}).Draw(t, "match"), Encrypt: modes.Draw(t, "rule"), Fixed: rapid.Bool().Draw(t, "fixed")}
	})
	rapid.Check(t, func(t *rapid.T) {
		base := Regime{Policy: Policy{Default: modes.Draw(t, "base"), Fixed: true, AllowSplit: rapid.Bool().Draw(t, "split"), Rules: rapid.SliceOfN(rule, 0, 3).Draw(t, "rules")}}
		var c Company
		for range rapid.IntRange(0, 3).Draw(t, "levels") {
			c.Groups = append(c.Groups, PolicyGroup{Members: []string{"alpha.test"}, PolicyLevel: PolicyLevel{
				Encrypt: modes.Draw(t, "encrypt"), Mixed: rapid.SampledFrom([]Mixture{"", MixtureSplit, MixtureRefuse}).Draw(t, "mixed"),
				Fixed: rapid.Bool().Draw(t, "fix"), Rules: rapid.SliceOfN(rule, 0, 3).Draw(t, "rules"),
			}})
		}
		below := c.For(base, "alice@alpha.test")
		for _, address := range []string{"a@x.test", "b@x.test", "a@y.test", "a@z.test"} {
			m := MessageFacts{From: "alice@alpha.test", Force: rapid.SampledFrom([]Force{ForceNothing, ForceRequire, ForceClear}).Draw(t, "force")}
			was, _ := base.modeFor(m, address)
			now, why := below.modeFor(m, address)
			if strictness(now) < strictness(was) {
				t.Fatalf("%s: %s became %s (%s)", address, was, now, why)
			}
		}
		if below.AllowSplit && !base.AllowSplit || !below.Fixed {
			t.Fatal("mixtures or senders are free again")
		}
	})
}
