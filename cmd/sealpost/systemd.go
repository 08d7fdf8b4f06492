package main

import (
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"
)

// sockets are the listeners that systemd has opened for us (sd_listen_fds(3)), by FileDescriptorName=. They stand in
// for the configured addresses, so that a restart refuses no connection and ports below 1024 need no privilege.
type sockets map[string]net.Listener

func inheritedSockets() (sockets, error) {
	named, err := activation.ListenersWithNames()
	if err != nil {
		return nil, fmt.Errorf("sockets from systemd: %w", err)
	}
	s := sockets{}
	for name, listeners := range named {
		if len(listeners) != 1 || listeners[0] == nil {
			return nil, fmt.Errorf("systemd passes %d sockets named %q; give each [Socket] one ListenStream= and its own FileDescriptorName=", len(listeners), name)
		}
		s[name] = listeners[0]
	}
	return s, nil
}

// open is the inherited socket of that name, else a new one; nil if neither is wanted.
func (s sockets) open(name, address string) (net.Listener, error) {
	if l, ok := s[name]; ok {
		delete(s, name)
		return l, nil
	}
	if address == "" {
		return nil, nil
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, listenError(name, address, err)
	}
	return l, nil
}

// leftover is an error if systemd passed a socket that nothing serves: mail would be lost in its backlog.
func (s sockets) leftover() error {
	if len(s) == 0 {
		return nil
	}
	return fmt.Errorf("systemd passes sockets of unknown names %q; FileDescriptorName= must be one of imap, imaps, smtp, smtps, devices, gateway-outbound, gateway-inbound, dashboard, metrics, wkd", slices.Sorted(maps.Keys(s)))
}

// notify tells systemd (sd_notify(3)), if it started us with Type=notify.
func notify(log *slog.Logger, state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		log.Warn("systemd could not be told", "state", state, "cause", err)
	}
}
