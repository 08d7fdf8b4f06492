package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/sealpost/sealpost/bridge/config"
	"github.com/sealpost/sealpost/bridge/contacts"
	"github.com/sealpost/sealpost/keydisc"
)

// maxAuthority bounds the file with an organisation's certificate, in bytes.
const maxAuthority = 1 << 20

// listsOf reads the certificates of the organisations whose lists are configured.
func listsOf(configured []config.List) (lists []contacts.List, err error) {
	for _, l := range configured {
		authority, err := authorityOf(l.Certificate)
		if err != nil {
			return nil, fmt.Errorf("certificate of the list %s: %w; see [[keydisc.list]]", l.URL, err)
		}
		source := keydisc.ListSource{URL: l.URL, Authority: authority, Domains: l.Domains}
		lists = append(lists, contacts.List{ListSource: source, MaxAge: l.Age()})
	}
	return lists, nil
}

func authorityOf(path string) (*keydisc.Certificate, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxAuthority {
		return nil, fmt.Errorf("%s is not a file of at most %d bytes", path, maxAuthority)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	certificates, err := keydisc.ParseCertificates(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(certificates) != 1 {
		return nil, errors.New(path + " holds more than one certificate")
	}
	return certificates[0], nil
}

// listStatus is one list as printed.
type listStatus struct {
	URL     string     `json:"url"`
	Signed  *time.Time `json:"signed"`
	Checked *time.Time `json:"checked"`
	InForce bool       `json:"in_force"`
	Problem string     `json:"problem,omitempty"`
}

func listStatuses(ctx context.Context, s *service) ([]listStatus, error) {
	states, err := s.bridge.Contacts().Lists(ctx)
	var all []listStatus
	for _, l := range states {
		all = append(all, listStatus{l.URL, unlessZero(l.Signed), unlessZero(l.Checked), l.InForce, l.Problem})
	}
	return all, err
}

func (l listStatus) print(g *globals) {
	state := "not taken in yet"
	switch {
	case l.InForce:
		state = "vouches, signed " + l.Signed.Format(time.DateOnly)
	case l.Signed != nil:
		state = "too old to vouch, signed " + l.Signed.Format(time.DateOnly)
	}
	fmt.Fprintf(g.stdout, "\nlist %s: %s\n", l.URL, state)
	if l.Problem != "" {
		fmt.Fprintf(g.stdout, "  %s\n", l.Problem)
	}
}
