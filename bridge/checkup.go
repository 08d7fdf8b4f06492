package bridge

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sealpost/sealpost/bridge/audit"
	"github.com/sealpost/sealpost/bridge/doctor"
	"github.com/sealpost/sealpost/bridge/upstream"
)

// Times after which somebody should do something.
const (
	keyEndsSoon   = 60 * 24 * time.Hour
	outboxWaits   = 24 * time.Hour
	clockDrift    = 10 * time.Minute // behind the newest entry of the log
	accountChecks = 30 * time.Second
)

// Checkup looks at everything that is behind the vault: database, clock, local authority, providers, keys, the gateway, backup, outbox.
func (b *Bridge) Checkup(ctx context.Context, host string) []doctor.Finding {
	findings := []doctor.Finding{b.checkDatabase(ctx), b.checkClock(ctx), b.checkAuthority(ctx, host)}
	for _, a := range b.accounts {
		findings = append(findings, a.checkProvider(ctx), a.checkKeys())
	}
	if g, ok := b.Gateway(); ok {
		findings = append(findings, g.checkHops(ctx)...)
		findings = append(findings, g.checkCertificates()...)
	}
	return append(findings, b.checkBackup(ctx), b.checkOutbox(ctx))
}

func (b *Bridge) checkDatabase(ctx context.Context) doctor.Finding {
	f := doctor.Finding{Check: "database", State: doctor.OK, Detail: "it reads as it was written"}
	if err := b.db.Check(ctx); err != nil {
		f.State, f.Detail, f.Remedy = doctor.Problem, err.Error(), "restore the state folder from a backup (sealpost backup restore); mail is at the provider"
	}
	return f
}

// checkClock compares with what has been written: a clock that went back makes signatures and certificates look wrong.
func (b *Bridge) checkClock(ctx context.Context) doctor.Finding {
	now := b.now()
	f := doctor.Finding{Check: "clock", State: doctor.OK, Detail: now.UTC().Format(time.RFC3339)}
	var newest time.Time
	err := b.audit.Newest(ctx, 0, func(e audit.Entry) bool { newest = e.Time; return false })
	for _, a := range b.accounts {
		for _, k := range a.Keys() {
			if k.Created.After(newest) {
				newest = k.Created
			}
		}
	}
	switch {
	case err != nil:
		f.State, f.Detail, f.Remedy = doctor.Problem, err.Error(), "see sealpost log verify"
	case now.Add(clockDrift).Before(newest):
		f.State = doctor.Problem
		f.Detail = fmt.Sprintf("it shows %s, but Sealpost has already written at %s", now.UTC().Format(time.RFC3339), newest.UTC().Format(time.RFC3339))
		f.Remedy = "set the clock, or let the system keep it (timedatectl set-ntp true): certificates and signatures depend on it"
	}
	return f
}

func (b *Bridge) checkAuthority(ctx context.Context, host string) doctor.Finding {
	f := doctor.Finding{Check: "local TLS authority", State: doctor.OK}
	identity, err := b.Identity(ctx, host)
	if err != nil {
		f.State, f.Detail, f.Remedy = doctor.Problem, err.Error(), "see the log"
		return f
	}
	end, soon := identity.CAExpiresSoon(b.now())
	f.Detail = "valid until " + end.Format(time.DateOnly)
	if soon {
		f.State, f.Remedy = doctor.Attention, "mail clients will have to trust a new one then (sealpost client)"
	}
	return f
}

func (a *Account) checkProvider(ctx context.Context) doctor.Finding {
	f := doctor.Finding{Check: "provider of " + a.Address(), State: doctor.OK, Detail: "IMAP and submission take the login"}
	ctx, cancel := context.WithTimeout(ctx, accountChecks)
	defer cancel()
	err := a.provider.Check(ctx)
	if err == nil {
		return f
	}
	f.State, f.Detail, f.Remedy = doctor.Problem, err.Error(), "check the network and the provider's servers; Sealpost tries again by itself"
	var failure *upstream.Error
	if errors.As(err, &failure) && failure.Kind == upstream.KindAuth {
		f.Remedy = "give the right password: sealpost init --address " + a.Address() + " --password-file FILE"
	}
	return f
}

func (a *Account) checkKeys() doctor.Finding {
	f := doctor.Finding{Check: "key of " + a.Address(), State: doctor.OK}
	now := a.bridge.now()
	certificate, err := a.ring.Certificate()
	if err != nil {
		f.State, f.Detail, f.Remedy = doctor.Problem, "there is none: mail is neither encrypted nor sealed", "sealpost key generate, or sealpost key import FILE"
		return f
	}
	f.Detail = string(certificate.Fingerprint())
	if err := checkOwn(certificate, now); err != nil {
		f.State, f.Detail, f.Remedy = doctor.Problem, err.Error(), "sealpost key rotate --expires 2y, or make another one: sealpost key generate --primary"
	} else if err := checkOwn(certificate, now.Add(keyEndsSoon)); err != nil {
		f.State, f.Detail, f.Remedy = doctor.Attention, fmt.Sprintf("%s can be used for less than %d days", certificate.Fingerprint(), int(keyEndsSoon.Hours()/24)), "sealpost key rotate --expires 2y"
	}
	return f
}

func (b *Bridge) checkBackup(ctx context.Context) doctor.Finding {
	f := doctor.Finding{Check: "backup", State: doctor.OK}
	s, err := b.BackupState(ctx)
	switch {
	case err != nil:
		f.State, f.Detail = doctor.Problem, err.Error()
	case s.Shared:
		f.Detail = "the keys are in the shared database, whose backups are its own"
	case len(s.Unproven) == 0 && s.Drilled.IsZero():
		f.Detail = "there is no key to back up"
	case len(s.Unproven) == 0:
		f.Detail = "a drill has brought back every key on " + s.Drilled.Local().Format(time.DateOnly)
	default:
		f.State, f.Detail = doctor.Attention, fmt.Sprintf("%d keys would be lost with this device: no drill has brought them back", len(s.Unproven))
		f.Remedy = "sealpost backup create --out FILE, then sealpost backup drill FILE"
	}
	return f
}

func (b *Bridge) checkOutbox(ctx context.Context) doctor.Finding {
	f := doctor.Finding{Check: "outbox", State: doctor.OK}
	n, oldest, err := b.outbox.Waiting(ctx)
	f.Detail = fmt.Sprintf("%d messages wait", n)
	switch {
	case err != nil:
		f.State, f.Detail = doctor.Problem, err.Error()
	case n > 0 && b.now().Sub(oldest) > outboxWaits:
		f.State, f.Detail = doctor.Attention, fmt.Sprintf("%d messages wait, one since %s", n, oldest.Local().Format(time.DateTime))
		f.Remedy = "see why: sealpost outbox list"
	}
	return f
}
