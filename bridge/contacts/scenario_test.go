package contacts

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/keydisc"
)

// Every file in testdata is a case; README.md there explains the steps.
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no cases", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			t.Parallel()
			f, err := os.Open(file)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			w := newWorld(t)
			lines := bufio.NewScanner(f)
			for n := 1; lines.Scan(); n++ {
				if line := strings.TrimSpace(lines.Text()); line != "" && line[0] != '#' {
					if err := w.step(line); err != nil {
						t.Fatalf("%s:%d: %s: %v", file, n, line, err)
					}
				}
			}
			if err := lines.Err(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// step does one line.
func (w *world) step(line string) error {
	line, want, _ := strings.Cut(line, " = ")
	words := strings.Fields(line)
	switch words[0] {
	case "clock":
		return w.clock(words[1])
	case "wkd", "vks":
		return w.answers(keydisc.Method(words[0]), words[1], words[2])
	case "update":
		return w.answersAt("keys.openpgp.org/vks/v1/by-fingerprint/"+string(certificate(w.t, words[1]).Fingerprint()), words[2])
	case "tend":
		return w.tend(words[1], want)
	case "list":
		return expect(w.takeList(words[1:]), want)
	case "lookup":
		return expect(w.lookup(words[1]), want)
	case "learn", "gossip":
		return w.learn(words, want)
	case "used":
		return w.book.Used(w.t.Context(), words[1], w.book.options.Now())
	case "import":
		return expect(w.imports(words[1]), want)
	case "accept":
		_, err := w.book.Accept(w.t.Context(), words[1])
		return refusedOr(err, want)
	case "keep":
		_, err := w.book.Keep(w.t.Context(), words[1])
		return refusedOr(err, want)
	case "verify":
		_, err := w.book.Verify(w.t.Context(), words[1], certificate(w.t, words[2]).Fingerprint())
		return refusedOr(err, want)
	case "block", "unblock":
		_, err := w.book.Block(w.t.Context(), words[1], words[0] == "block")
		return err
	case "forget":
		return refusedOr(w.book.Forget(w.t.Context(), words[1]), want)
	case "asked":
		return expect(strconv.Itoa(int(w.requests.Swap(0))), words[1])
	}
	return errors.New("unknown step")
}

// tend lets time pass, half an hour at a time, and the book look after its contacts, and says whom it looked for.
func (w *world) tend(span, want string) error {
	d, err := time.ParseDuration(span)
	if err != nil {
		return err
	}
	w.looked = nil
	for range int(d / (30 * time.Minute)) {
		w.now.Add(int64(30 * time.Minute))
		if err := w.book.Tend(w.t.Context(), &w.tending); err != nil {
			return err
		}
	}
	slices.Sort(w.looked)
	return expect(strings.Join(slices.Compact(w.looked), ","), want)
}

// takeList takes in the list of the staff, signed some time ago: each word is a certificate, ADDRESS:CERT if the list only
// names it, an age such as -1h, or "none" for a list that cannot be had.
func (w *world) takeList(words []string) string {
	l := staff(w.t)
	list := &keydisc.List{Signed: w.book.options.Now()}
	for _, word := range words {
		age, err := time.ParseDuration(word)
		address, name, named := strings.Cut(word, ":")
		switch {
		case word == "none":
			list = nil
		case err == nil:
			list.Signed = list.Signed.Add(age)
		case named:
			list.Entries = append(list.Entries, keydisc.ListEntry{Address: address, Fingerprint: certificate(w.t, name).Fingerprint()})
		default:
			own, err := certificate(w.t, word).ForAddress("bob@bravo.test")
			if err != nil {
				return err.Error()
			}
			list.Entries = append(list.Entries, keydisc.ListEntry{Address: "bob@bravo.test", Fingerprint: own.Fingerprint(), Certificate: own})
		}
	}
	w.list = list
	if err := w.book.lookAtList(w.t.Context(), l); err != nil {
		return err.Error()
	}
	states, err := w.book.Lists(w.t.Context())
	if err != nil || len(states) != 1 {
		return fmt.Sprint(states, err)
	}
	switch {
	case states[0].Problem == ErrReplayed.Error():
		return "replayed"
	case states[0].Problem == errAuthorityRevoked.Error():
		return "revoked"
	case states[0].Problem == ErrLapsed.Error():
		return "lapsed"
	case states[0].Problem != "":
		return states[0].Problem
	case !states[0].InForce:
		return "not in force"
	}
	return ""
}

func expect(got, want string) error {
	if got != want {
		return fmt.Errorf("got %s", got)
	}
	return nil
}

func refusedOr(err error, want string) error {
	if (err != nil) != (want == "refused") {
		return fmt.Errorf("got %w", err)
	}
	return nil
}

func (w *world) clock(by string) error {
	d, err := time.ParseDuration(by)
	w.now.Add(int64(d))
	return err
}

func (w *world) lookup(address string) string {
	l := w.book.Lookup(w.t.Context(), address)
	w.book.running.Wait()
	words := []string{"none"}
	if l.Certificate != nil {
		words = []string{w.nameOf(l.Certificate.Fingerprint()), string(l.Source)}
	}
	words = append(words, string(l.Trust), w.verdict(l))
	return strings.Join(words, " ")
}

func (w *world) verdict(l Lookup) string {
	var changed *ChangedError
	var unusable *keydisc.UnusableError
	var blocked *BlockedError
	switch {
	case l.Usable == nil:
		return "usable"
	case errors.As(l.Usable, &blocked) && l.Blocked:
		return "blocked"
	case errors.As(l.Usable, &changed) && l.Pending == changed.Pending:
		return "changed-" + w.nameOf(changed.Pending)
	case errors.As(l.Usable, &unusable) && l.Ever:
		return string(unusable.Reason)
	case !errors.Is(l.Usable, ErrNone):
		return "unexpected " + l.Usable.Error()
	}
	words := []string{"none", "never"}
	if !l.Conclusive && l.Cause != nil {
		words[0] = "inconclusive"
	}
	if l.Ever {
		words[1] = "once"
	}
	return strings.Join(words, "-")
}

func (w *world) learn(words []string, want string) error {
	source, effective := SourceAutocrypt, w.book.options.Now()
	if words[0] == "gossip" {
		source = SourceGossip
	}
	if len(words) > 3 {
		d, err := time.ParseDuration(words[3])
		if err != nil {
			return err
		}
		effective = effective.Add(d)
	}
	err := w.book.Learn(w.t.Context(), words[1], certificate(w.t, words[2]), source, effective)
	if want == "refused" && err != nil {
		return nil
	}
	if want != "" {
		return fmt.Errorf("not %s: %w", want, err)
	}
	return err
}

func (w *world) imports(names string) string {
	var certificates []*keydisc.Certificate
	for name := range strings.SplitSeq(names, ",") {
		certificates = append(certificates, certificate(w.t, name))
	}
	contacts, err := w.book.Import(w.t.Context(), certificates)
	var refused *RefusedError
	if err != nil && (!errors.As(err, &refused) || len(contacts) == 0) {
		return "refused"
	}
	var addresses, others []string
	for _, c := range contacts {
		addresses = append(addresses, c.Address)
	}
	slices.Sort(addresses)
	if refused == nil {
		return strings.Join(addresses, ",")
	}
	for _, reason := range refused.Reasons {
		address, _, _ := strings.Cut(reason.Error(), ":")
		others = append(others, address)
	}
	return strings.Join(addresses, ",") + " but not " + strings.Join(others, ",")
}

// nameOf is the file with the certificate, the first in the order of the alphabet but for "extended" and
// "revoked", which are later copies of others.
func (w *world) nameOf(f keydisc.Fingerprint) string {
	for _, name := range []string{"alice", "bob", "bob2", "carol2", "lapsed", "unrevoked"} {
		if certificate(w.t, name).Fingerprint() == f {
			return name
		}
	}
	return string(f)
}
