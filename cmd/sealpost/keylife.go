package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/sealpost/sealpost/bridge"
	"github.com/sealpost/sealpost/keydisc"
)

type keyRotateCmd struct {
	Fingerprint string `arg:"" optional:"" help:"Another key than the one in use."`
	Account     string `help:"The account, if there are several." placeholder:"ADDRESS"`
	Subkey      bool   `negatable:"" default:"true" help:"Make a new encryption subkey."`
	Expires     string `help:"Let the key end after this time: a number and d, m or y, or never." placeholder:"2y"`
	Primary     bool   `help:"Use this key from now on."`
	JSON        bool   `help:"Print JSON."`
}

func (keyRotateCmd) Help() string {
	return "Example:\n\n    sealpost key rotate --expires 2y\n\nKeys made by Sealpost get a new subkey every year and a later end by themselves. Others have the change with your next mail; publish it if your certificate is published (sealpost key publish)."
}

type keyRotateParams struct {
	Account, Fingerprint string
	Subkey, Primary      bool
	Expires              string
}

var keyRotateOperation = operation[keyRotateParams, []keyInfo]{"key-rotate", false, func(ctx context.Context, s *service, p keyRotateParams, _ bridge.Progress) ([]keyInfo, error) {
	a, err := s.owner(ctx, p.Account)
	if err != nil {
		return nil, err
	}
	fingerprint, err := ownFingerprint(a, p.Fingerprint)
	if err != nil {
		return nil, err
	}
	var until time.Time
	if p.Expires != "" {
		if until, err = endOf(p.Expires, time.Now()); err == nil {
			_, err = a.ExtendKey(ctx, fingerprint, until)
		}
	}
	if err == nil && p.Subkey {
		_, err = a.RotateKey(ctx, fingerprint)
	}
	if err == nil && p.Primary {
		err = a.PreferKey(ctx, fingerprint)
	}
	return infosOfKey(a, fingerprint), err
}}

// Run implements the command.
func (c keyRotateCmd) Run(ctx context.Context, g *globals) error {
	if c.Expires != "" {
		if _, err := endOf(c.Expires, time.Now()); err != nil {
			return fmt.Errorf("%w: --expires: %w", errUsage, err)
		}
	}
	if !c.Subkey && c.Expires == "" && !c.Primary {
		return fmt.Errorf("%w: nothing to do; say --expires or --primary", errUsage)
	}
	infos, err := call(ctx, g, keyRotateOperation, keyRotateParams{c.Account, c.Fingerprint, c.Subkey, c.Primary, c.Expires})
	if err != nil {
		return err
	}
	return printKeys(g, infos, c.JSON)
}

// ownFingerprint is a key of the account as the user names it; "" is the one in use.
func ownFingerprint(a *bridge.Owner, name string) (keydisc.Fingerprint, error) {
	wanted := strings.ToUpper(strings.ReplaceAll(name, " ", ""))
	for _, k := range a.Keys() {
		if wanted == "" || string(k.Fingerprint) == wanted {
			return k.Fingerprint, nil
		}
	}
	if wanted == "" {
		return "", fmt.Errorf("%s has no key; make one with sealpost key generate", a.Address())
	}
	return "", fmt.Errorf("%s: %w; see sealpost key list", name, bridge.ErrNoKey)
}

func infosOfKey(a *bridge.Owner, f keydisc.Fingerprint) []keyInfo {
	var keys []bridge.Key
	for _, k := range a.Keys() {
		if k.Fingerprint == f {
			keys = append(keys, k)
		}
	}
	return keyInfos(keys)
}

// endOf is a time from now: 90d, 18m, 2y; zero for never.
func endOf(text string, now time.Time) (time.Time, error) {
	if text == "never" {
		return time.Time{}, nil
	}
	unit := text[len(text)-1:]
	n, err := strconv.Atoi(strings.TrimSuffix(text, unit))
	if err != nil || n <= 0 || n > 36500 {
		return time.Time{}, fmt.Errorf("%q is no time; write for example 90d, 18m, 2y or never", text)
	}
	switch unit {
	case "d":
		return now.AddDate(0, 0, n), nil
	case "m":
		return now.AddDate(0, n, 0), nil
	case "y":
		return now.AddDate(n, 0, 0), nil
	}
	return time.Time{}, fmt.Errorf("%q is no time; write for example 90d, 18m, 2y or never", text)
}

type keyRevokeCmd struct {
	Fingerprint string `arg:"" help:"The key; see sealpost key list."`
	Account     string `help:"The account, if there are several." placeholder:"ADDRESS"`
	Reason      string `help:"Why: ${enum}." enum:"compromised,superseded,retired,none" default:"none"`
	Text        string `help:"A sentence about it, for others to read."`
	Last        bool   `help:"Also if it is the only usable key: mail can then be neither sent encrypted nor sealed."`
	JSON        bool   `help:"Print JSON."`
}

func (keyRevokeCmd) Help() string {
	return "Example:\n\n    sealpost key revoke EB5F4E94C9B00981A6AFF84F7C096B5E4C989488 --reason compromised\n\nIt cannot be undone. The key still opens older mail. Publish it, and tell your correspondents: they see it only where they look."
}

type keyRevokeParams struct {
	Account, Fingerprint, Reason, Text string
	Last                               bool
}

var keyRevokeOperation = operation[keyRevokeParams, []keyInfo]{"key-revoke", false, func(ctx context.Context, s *service, p keyRevokeParams, _ bridge.Progress) ([]keyInfo, error) {
	a, err := s.owner(ctx, p.Account)
	if err != nil {
		return nil, err
	}
	fingerprint, err := ownFingerprint(a, p.Fingerprint)
	if err != nil {
		return nil, err
	}
	if _, err := a.RevokeKey(ctx, fingerprint, bridge.RevocationReason(p.Reason), p.Text, p.Last); err != nil {
		if errors.Is(err, bridge.ErrKeyRevoked) {
			err = fmt.Errorf("%w already", err)
		}
		return nil, err
	}
	return infosOfKey(a, fingerprint), nil
}}

// Run implements the command.
func (c keyRevokeCmd) Run(ctx context.Context, g *globals) error {
	infos, err := call(ctx, g, keyRevokeOperation, keyRevokeParams{c.Account, c.Fingerprint, c.Reason, c.Text, c.Last})
	if err != nil {
		return err
	}
	if err := printKeys(g, infos, c.JSON); err != nil || c.JSON {
		return err
	}
	fmt.Fprintln(g.stdout, "It still opens older mail. Where it was published with sealpost key publish the revocation follows by itself; give it to others with sealpost key export --fingerprint "+infos[0].Fingerprint+".")
	return nil
}
