package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/sealpost/sealpost/bridge"
)

// deviceSettings is what has to be typed into a device's menu; listeners are host:port, "" if off.
type deviceSettings struct {
	Name       string   `json:"name"`
	Username   string   `json:"username"`
	Password   string   `json:"password"`
	Devices    string   `json:"devices"` // also without TLS
	SMTP       string   `json:"smtp"`
	SMTPS      string   `json:"smtps"`
	Address    string   `json:"address"` // in From
	Recipients []string `json:"recipients"`
	CAFile     string   `json:"ca_file"`
}

var clientDeviceOperation = operation[string, deviceSettings]{"client-device", false, func(ctx context.Context, s *service, name string, _ bridge.Progress) (deviceSettings, error) {
	d, ok := s.bridge.Device(name)
	if !ok {
		return deviceSettings{}, fmt.Errorf("%s is no [[device]] of the configuration; add it there and start Sealpost again", name)
	}
	password, err := d.Password(ctx)
	if err != nil {
		return deviceSettings{}, err
	}
	caFile, err := writeCA(ctx, s)
	return deviceSettings{
		Name: name, Username: name, Password: password, Address: d.Address(), Recipients: d.Recipients(), CAFile: caFile,
		Devices: s.listeners["devices"], SMTP: s.listeners["smtp"], SMTPS: s.listeners["smtps"],
	}, err
}}

func (c clientCmd) device(ctx context.Context, g *globals) error {
	if c.For != "" || c.Account != "" {
		return fmt.Errorf("%w: --device goes with neither --for nor --account", errUsage)
	}
	d, err := call(ctx, g, clientDeviceOperation, c.Device)
	if err != nil {
		return err
	}
	if c.JSON {
		return g.printJSON(d)
	}
	fmt.Fprintf(g.stdout, "Settings for the device %s:\n\n  User name    %s\n  Password     %s\n  SMTP server  %s\n", d.Name, d.Username, d.Password, listenersOf(d.SMTP, d.SMTPS))
	if d.Devices != "" {
		fmt.Fprintf(g.stdout, "               %s (without TLS, or STARTTLS)\n", d.Devices)
	}
	fmt.Fprintf(g.stdout, "  Sends as     %s\n", d.Address)
	fmt.Fprintf(g.stdout, "  Recipients   %s\n  Trust the CA %s\n", strings.Join(d.Recipients, ", "), d.CAFile)
	return nil
}

// deviceStatus is one device in `status`.
type deviceStatus struct {
	Name     string     `json:"name"`
	Last     *time.Time `json:"last"` // message; null: none yet
	Messages int64      `json:"messages"`
	Silent   bool       `json:"silent"` // longer than it usually is
}

func deviceStatuses(ctx context.Context, b *bridge.Bridge) (all []deviceStatus, err error) {
	for _, d := range b.Devices() {
		s, err := b.DeviceState(ctx, d.Name())
		if err != nil {
			return nil, err
		}
		all = append(all, deviceStatus{d.Name(), unlessZero(s.Last), s.Messages, s.Silent})
	}
	return all, nil
}

func (d deviceStatus) print(g *globals) {
	switch {
	case d.Last == nil:
		fmt.Fprintf(g.stdout, "\nDevice %s: nothing yet\n", d.Name)
	case d.Silent:
		fmt.Fprintf(g.stdout, "\nDevice %s: SILENT since %s\n", d.Name, d.Last.Local().Format(time.DateTime))
	default:
		fmt.Fprintf(g.stdout, "\nDevice %s: %d messages, the last %s\n", d.Name, d.Messages, d.Last.Local().Format(time.DateTime))
	}
}
