package bridge

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base32"
	"errors"
	"fmt"
	"io"
	"net/mail"
	"slices"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"github.com/sealpost/sealpost/bridge/internal/keyring"
	"github.com/sealpost/sealpost/bridge/internal/pgpmime"
	"github.com/sealpost/sealpost/bridge/internal/spool"
	"github.com/sealpost/sealpost/bridge/mimescan"
	"github.com/sealpost/sealpost/bridge/outbox"
)

// A device is a camera, a scanner, a sensor: it knows a server, a user name and a password, and nothing of encryption. Its lane
// is narrow: the recipients of the configuration, so many messages an hour, encrypted whatever anybody wishes, never in
// clear. It does not try again, so what is encrypted waits in the outbox while the provider is away.

// DeviceOptions configure one device.
type DeviceOptions struct {
	Name       string   // letters, digits, - and _; also its user name
	Account    string   // whose provider sends
	Address    string   // in From, with a key of its own; "": the account's, whose key signs
	Recipients []string // nobody else gets anything
	Rate       Rate     // of messages
	// SilentAfter is how long it may say nothing before an alert; 0: three times its usual pause, a day at least.
	SilentAfter time.Duration
}

// Rate is so many in so long.
type Rate struct {
	Events int
	Per    time.Duration
}

// Device is one lane. Safe for concurrent use.
type Device struct {
	sender
	options DeviceOptions
	account *Account
	limit   *rate.Limiter
}

func (b *Bridge) newDevice(o DeviceOptions) (*Device, error) {
	a, ok := b.Account(o.Account)
	if !ok {
		return nil, fmt.Errorf("device %s: %s is not an account", o.Name, o.Account)
	}
	limit := rate.NewLimiter(rate.Limit(float64(o.Rate.Events)/o.Rate.Per.Seconds()), o.Rate.Events)
	d := &Device{options: o, account: a, limit: limit}
	d.sender = sender{bridge: b, log: b.log.With("account", a.Address(), "device", o.Name), origin: deviceOrigin{a, d}}
	return d, nil
}

// Name of the device.
func (d *Device) Name() string { return d.options.Name }

// MaxMessageSize is what Submit accepts, in bytes.
func (d *Device) MaxMessageSize() int64 { return d.account.MaxMessageSize() }

// Devices in the order of the configuration.
func (b *Bridge) Devices() []*Device { return b.devices }

// Device with that name.
func (b *Bridge) Device(name string) (*Device, bool) {
	i := slices.IndexFunc(b.devices, func(d *Device) bool { return d.options.Name == name })
	if i < 0 {
		return nil, false
	}
	return b.devices[i], true
}

// LoginDevice checks a device's credentials as Login does an account's.
func (b *Bridge) LoginDevice(ctx context.Context, name, password string) (*Device, error) {
	d, known := b.Device(name)
	var want string
	if known {
		var err error
		if want, err = d.Password(ctx); err != nil {
			return nil, err
		}
	}
	if subtle.ConstantTimeCompare([]byte(password), []byte(want)) == 1 && known {
		return d, nil
	}
	if err := b.logins.limiter("device").Wait(ctx); err != nil {
		return nil, err
	}
	b.log.Warn("login of a device refused", "known_device", known)
	return nil, ErrCredentials
}

// Password of the device; made on first use. Only letters and digits: menus of devices are hard to type in.
func (d *Device) Password(ctx context.Context) (string, error) {
	b, name := d.account.bridge, "device-password:"+d.options.Name
	password, err := b.secrets.Get(ctx, name)
	if err == nil {
		return string(password), nil
	}
	if !errors.Is(err, keyring.ErrNoSecret) {
		return "", fmt.Errorf("password of the device %s: %w", d.options.Name, err)
	}
	var random [15]byte
	_, _ = rand.Read(random[:])
	made := strings.ToLower(base32.StdEncoding.EncodeToString(random[:]))
	return made, b.secrets.Set(ctx, name, []byte(made))
}

// Submit takes a message from the device and returns nil once it is with the provider or, encrypted, safe in the outbox.
// The error is a *Refusal: nothing was sent.
func (d *Device) Submit(ctx context.Context, e Envelope, message io.Reader) error {
	if err := d.admit(e); err != nil {
		return err
	}
	dressed, err := d.dress(message)
	if err != nil {
		return err
	}
	defer dressed.Close()
	e.From = d.account.Address()
	m, err := d.receive(ctx, e, dressed.Reader())
	if err != nil {
		return err
	}
	defer m.Close()
	facts := MessageFacts{From: m.author, Device: d.options.Name}
	recipients := d.decide(ctx, m.regime.Policy, facts, m.to, m.visible)
	if refusal := refusalOf(recipients); refusal != nil {
		d.record(ctx, m, recipients)
		return refusal
	}
	parcels, err := d.compose(ctx, m, recipients)
	defer closeAll(parcels)
	if err != nil {
		return err
	}
	if err := d.deliver(ctx, m, parcels, recipients); err != nil {
		return err
	}
	d.record(ctx, m, recipients)
	d.bridge.deviceSeen(ctx, d, e, dressed.Size())
	return nil
}

// admit looks at the envelope: the lane's recipients alone, and not too many messages.
func (d *Device) admit(e Envelope) error {
	for _, to := range e.To {
		if !slices.ContainsFunc(d.options.Recipients, func(allowed string) bool { return normalized(allowed) == normalized(to) }) {
			return &Refusal{Reason: ReasonPolicy, Text: "the device " + d.options.Name + " may not write to " + to + ". Add the address to its recipients in the configuration"}
		}
	}
	if !d.limit.AllowN(d.bridge.now(), 1) {
		return &Refusal{
			Reason: ReasonRate, Text: fmt.Sprintf("the device %s sends more than %d messages in %s. Try again later", d.options.Name, d.options.Rate.Events, d.options.Rate.Per),
		}
	}
	return nil
}

// keptOfDevices are the fields of a device's message that stay. All others go: outside of the encryption they would show what
// the device is, and a first line of its text that looks like a field would show that.
var keptOfDevices = []string{
	"To", "Cc", "Subject", "Date", "MIME-Version", "Content-Type", "Content-Transfer-Encoding", "Content-Disposition", "Content-ID", "Content-Description",
}

// dress makes a message out of what devices send: bare line ends become lines, a text without a header gets one, and the
// author is the account, or the device's own address, under the device's name.
func (d *Device) dress(r io.Reader) (*spool.Spool, error) {
	raw, err := d.spoolLines(r)
	if err != nil {
		return nil, err
	}
	defer raw.Close()
	header, err := mimescan.ReadTop(raw)
	if err != nil {
		return nil, localRefusal(err)
	}
	var source io.Reader = raw.Reader()
	if !slices.ContainsFunc(header, func(f mimescan.Field) bool { return keptOfDevice(f.Name) || strings.EqualFold(f.Name, "From") }) {
		source, header = io.MultiReader(strings.NewReader("MIME-Version: 1.0\r\n\r\n"), source), nil // it is all text
	}
	drop := []string{"From"}
	for _, f := range header {
		if !keptOfDevice(f.Name) {
			drop = append(drop, f.Name)
		}
	}
	dressed := spool.New(d.bridge.spoolDir)
	if err := pgpmime.Normalise(dressed, source, drop, d.fields(header)); err != nil {
		_ = dressed.Close()
		return nil, localRefusal(err)
	}
	return dressed, nil
}

func keptOfDevice(name string) bool {
	return slices.ContainsFunc(keptOfDevices, func(kept string) bool { return strings.EqualFold(kept, name) })
}

func (d *Device) fields(header mimescan.Header) []pgpmime.Field {
	from := (&mail.Address{Name: d.options.Name, Address: d.Address()}).String()
	add := []pgpmime.Field{{Name: "From", Value: from}}
	if d.options.Address != "" {
		add = append(add, pgpmime.Field{Name: "Reply-To", Value: d.account.Address()})
	}
	if len(header.Values("To")) == 0 { // the recipients see each other anyway: the configuration names them
		add = append(add, pgpmime.Field{Name: "To", Value: strings.Join(d.options.Recipients, ", ")})
	}
	return add
}

// deliver hands over, or queues what is encrypted if the provider cannot take it now.
func (d *Device) deliver(ctx context.Context, m *outgoing, parcels []parcel, recipients []recipient) error {
	lost, err := d.handOver(ctx, m, parcels)
	var refusal *Refusal
	if errors.As(err, &refusal) && refusal.temporary() {
		return d.queueAll(ctx, m, parcels, refusal)
	}
	if err != nil {
		return err
	}
	if refusal := partlySent(recipients, lost); refusal != nil {
		d.record(ctx, m, recipients)
		return refusal
	}
	return nil
}

// queueAll puts everything into the outbox or, with an error, nothing: the device may send it again.
func (d *Device) queueAll(ctx context.Context, m *outgoing, parcels []parcel, cause *Refusal) error {
	items := make([]outbox.Item, len(parcels))
	for i, p := range parcels {
		items[i] = d.queued(m, p, cause)
	}
	if err := d.bridge.outbox.Add(ctx, items...); err != nil {
		return localRefusal(err)
	}
	return nil
}

// temporary says whether trying again may help.
func (r *Refusal) temporary() bool {
	switch r.Reason {
	case ReasonUnreachable:
		return true
	case ReasonProvider:
		return r.Code < 500
	}
	return false
}

// Recipients that the device may write to.
func (d *Device) Recipients() []string { return slices.Clone(d.options.Recipients) }
