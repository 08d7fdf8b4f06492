package bridge

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sealpost/sealpost/bridge/internal/spool"
	"github.com/sealpost/sealpost/bridge/store"
)

// A camera that falls silent may have been cut off; one that suddenly speaks from elsewhere may be somebody else with its
// password. The user is told in the INBOX of the account, once for each event.

const (
	silenceInterval = 10 * time.Minute // between looks for silence
	leastSilence    = 24 * time.Hour
	usualAfter      = 10 // messages until something is usual
	farLarger       = 20 // times the usual size
)

// DeviceState is what is known of how a device behaves.
type DeviceState struct {
	Name        string
	First, Last time.Time // zero: it has never sent anything
	Messages    int64
	Pause       time.Duration // usual time between messages
	Size        int64         // usual size, in bytes
	Client      Client        // who sent last
	Silent      bool          // its silence has been told
}

// DeviceState of a device.
func (b *Bridge) DeviceState(ctx context.Context, name string) (DeviceState, error) {
	s := DeviceState{Name: name}
	var first, last, pause int64
	err := b.db.Read().QueryRowContext(ctx, `SELECT first, last, messages, pause, size, ip, hello, silent FROM device WHERE name = ?`, name).
		Scan(&first, &last, &s.Messages, &pause, &s.Size, &s.Client.IP, &s.Client.Hello, &s.Silent)
	if errors.Is(err, sql.ErrNoRows) {
		return s, nil
	}
	if err != nil {
		return s, fmt.Errorf("device %s: %w", name, store.Explain(err))
	}
	s.First, s.Last, s.Pause = time.Unix(0, first), time.Unix(0, last), time.Duration(pause)
	return s, nil
}

// deviceSeen notes that a device has sent something, and tells what is new about it. Nothing of it is a reason to
// refuse a message that has been accepted.
func (b *Bridge) deviceSeen(ctx context.Context, d *Device, e Envelope, size int64) {
	ctx = context.WithoutCancel(ctx)
	before, err := b.DeviceState(ctx, d.Name())
	if err == nil {
		after := before.next(b.now(), e.Client, size)
		if err = b.alert(ctx, d, before.changes(e.Client, size)); err != nil {
			after.Client, after.Silent = before.Client, before.Silent // the next message is another chance to tell
		}
		err = errors.Join(err, b.saveDevice(ctx, after))
	}
	if err != nil {
		b.log.Warn("what a device does could not be noted", "device", d.Name(), "cause", err)
	}
}

// next is the state after a message. What is usual follows slowly.
func (s DeviceState) next(now time.Time, c Client, size int64) DeviceState {
	if s.Messages == 0 {
		s.First, s.Size = now, size
	} else {
		s.Pause += (now.Sub(s.Last) - s.Pause) / time.Duration(min(s.Messages, usualAfter))
		s.Size += (size - s.Size) / min(s.Messages, usualAfter)
	}
	s.Messages++
	s.Last, s.Client, s.Silent = now, c, false
	return s
}

// changes are what is unlike before, in words; none of a device that is not known yet.
func (s DeviceState) changes(c Client, size int64) (told []string) {
	if s.Messages == 0 {
		return nil
	}
	if s.Silent {
		told = append(told, fmt.Sprintf("It has sent a message again. The last one was of %s.", s.Last.UTC().Format(time.RFC1123Z)))
	}
	if c.IP != s.Client.IP {
		told = append(told, fmt.Sprintf("It sends from another address: %s instead of %s.", c.IP, s.Client.IP))
	}
	if c.Hello != s.Client.Hello {
		told = append(told, fmt.Sprintf("It calls itself %s instead of %s.", oneWord(c.Hello), oneWord(s.Client.Hello)))
	}
	if s.Messages >= usualAfter && size > farLarger*s.Size {
		told = append(told, fmt.Sprintf("It has sent a message of %d bytes; usual are %d.", size, s.Size))
	}
	return told
}

// oneWord keeps what a stranger says from being read as anything else.
func oneWord(s string) string { return fmt.Sprintf("%.100q", s) }

func (b *Bridge) saveDevice(ctx context.Context, s DeviceState) error {
	return b.db.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO device (name, first, last, messages, pause, size, ip, hello, silent) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT (name) DO UPDATE SET last = excluded.last, messages = excluded.messages, pause = excluded.pause, size = excluded.size,
				ip = excluded.ip, hello = excluded.hello, silent = excluded.silent`,
			s.Name, s.First.UnixNano(), s.Last.UnixNano(), s.Messages, int64(s.Pause), s.Size, s.Client.IP, s.Client.Hello, s.Silent)
		return err
	})
}

// watchDevices tells of devices that have fallen silent, until ctx ends.
func (b *Bridge) watchDevices(ctx context.Context) error {
	ticker := time.NewTicker(silenceInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
		for _, d := range b.devices {
			if err := b.tellSilence(ctx, d); err != nil && ctx.Err() == nil {
				b.log.Warn("that a device is silent could not be told; trying again", "device", d.Name(), "cause", err)
			}
		}
	}
}

func (b *Bridge) tellSilence(ctx context.Context, d *Device) error {
	s, err := b.DeviceState(ctx, d.Name())
	if err != nil || s.Messages == 0 || s.Silent || b.now().Sub(s.Last) < d.patience(s) {
		return err
	}
	if err := b.alert(ctx, d, []string{fmt.Sprintf("It has sent nothing since %s.", s.Last.UTC().Format(time.RFC1123Z))}); err != nil {
		return err
	}
	s.Silent = true
	return b.saveDevice(ctx, s)
}

// patience is how long the device may say nothing.
func (d *Device) patience(s DeviceState) time.Duration {
	if d.options.SilentAfter > 0 {
		return d.options.SilentAfter
	}
	return max(leastSilence, 3*s.Pause)
}

// alert puts a note into the account's INBOX, sealed like all that is appended.
func (b *Bridge) alert(ctx context.Context, d *Device, told []string) error {
	if len(told) == 0 {
		return nil
	}
	b.log.Warn("a device behaves differently", "device", d.Name(), "what", strings.Join(told, " "))
	note := spool.New(b.spoolDir)
	defer note.Close()
	if _, err := note.Write([]byte(alertText(d, told, b.now()))); err != nil {
		return err
	}
	_, err := d.account.Append(ctx, "INBOX", note.Reader(), note.Size(), nil)
	return err
}

func alertText(d *Device, told []string, now time.Time) string {
	_, domain, _ := strings.Cut(d.account.Address(), "@")
	lines := []string{
		"From: Sealpost <postmaster@" + domain + ">", "To: <" + d.account.Address() + ">", "Date: " + now.UTC().Format(time.RFC1123Z),
		"Message-ID: " + newMessageID(d.account.Address()), "Subject: The device " + d.Name() + " behaves differently",
		"Auto-Submitted: auto-generated", "MIME-Version: 1.0", "Content-Type: text/plain; charset=utf-8", "",
		"The device " + d.Name() + " behaves differently:", "",
	}
	for _, t := range told {
		lines = append(lines, "  "+t)
	}
	lines = append(lines, "", "If that is not as you want it, look after the device. If somebody else may have its password, take it out of the",
		"configuration and give it another name: then it gets another password (sealpost client --device NAME).", "")
	return strings.Join(lines, "\r\n")
}
