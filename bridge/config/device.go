package config

import (
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Device is a submission lane for something that only knows a password.
type Device struct {
	Name        string   `toml:"name"`    // also its user name
	Account     string   `toml:"account"` // "": the only one
	Address     string   `toml:"address"` // its own, with a key of its own; "": the account's
	Recipients  []string `toml:"recipients"`
	Rate        string   `toml:"rate"`         // N/s, N/m, N/h or N/d; "": 30/h
	SilentAfter Duration `toml:"silent_after"` // 0: three times its usual pause
}

const defaultRate = "30/h"

var units = map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour}

// Messages is Rate: so many in so long.
func (d Device) Messages() (n int, per time.Duration, err error) {
	text := d.Rate
	if text == "" {
		text = defaultRate
	}
	count, unit, ok := strings.Cut(text, "/")
	n, err = strconv.Atoi(strings.TrimSpace(count))
	per = units[strings.TrimSpace(unit)]
	if !ok || err != nil || n < 1 || n > 100_000 || per == 0 {
		return 0, 0, fmt.Errorf("%q is no rate", d.Rate)
	}
	return n, per, nil
}

// accountOf is the account whose lane it is.
func (d Device) accountOf(accounts []Account) string {
	if d.Account == "" && len(accounts) == 1 {
		return accounts[0].Address
	}
	return d.Account
}

var deviceName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$`)

// devices checks the lanes.
func (c *checker) devices(cfg *Config) {
	seen, addresses := map[string]bool{}, map[string]bool{}
	for i, d := range cfg.Devices {
		key := fmt.Sprintf("device.%d", i)
		if !deviceName.MatchString(d.Name) {
			c.bad(key+".name", fmt.Sprintf("%q is no name for a device", d.Name), "use letters, digits, - and _, at most 64")
		}
		if seen[strings.ToLower(d.Name)] {
			c.bad(key+".name", d.Name+" is configured twice", "give each device its own name")
		}
		seen[strings.ToLower(d.Name)] = true
		c.deviceAccount(key+".account", d, cfg.Accounts)
		if address := strings.ToLower(d.Address); address != "" {
			c.deviceAddress(key+".address", d.Address, cfg.Accounts)
			if addresses[address] {
				c.bad(key+".address", d.Address+" is another device's", "give each device its own, or none")
			}
			addresses[address] = true
		}
		if len(d.Recipients) == 0 {
			c.bad(key+".recipients", "there are none", "name the addresses that the device may write to")
		}
		for _, to := range d.Recipients {
			if !isAddress(to) {
				c.bad(key+".recipients", fmt.Sprintf("%q is not a mail address", to), "write it as name@example.org")
			}
		}
		if _, _, err := d.Messages(); err != nil {
			c.bad(key+".rate", err.Error(), `write for example "30/h": a number from 1 to 100000 and s, m, h or d`)
		}
		if d.SilentAfter < 0 || d.SilentAfter != 0 && time.Duration(d.SilentAfter) < time.Minute {
			c.bad(key+".silent_after", d.SilentAfter.String()+" is too short", `choose "1m" or more, or leave it out`)
		}
	}
}

func (c *checker) deviceAccount(key string, d Device, accounts []Account) {
	for _, a := range accounts {
		if strings.EqualFold(a.Address, d.accountOf(accounts)) {
			return
		}
	}
	if d.Account == "" {
		c.bad(key, "there are several accounts, or none", "name the account whose key signs the device's mail")
		return
	}
	c.bad(key, d.Account+" is no [[account]] of this file", "name the address of one")
}

// deviceAddress: one that is an account's would have two keys.
func (c *checker) deviceAddress(key, address string, accounts []Account) {
	if !isAddress(address) {
		c.bad(key, fmt.Sprintf("%q is not a mail address", address), `write it as "name+device@example.org", or leave it out`)
	}
	for _, a := range accounts {
		if slices.ContainsFunc(append([]string{a.Address}, a.Aliases...), func(own string) bool { return strings.EqualFold(own, address) }) {
			c.bad(key, address+" is an account's address", "choose another one that its provider delivers to it, or leave it out")
		}
	}
}

// lanListener checks the listener that takes passwords of devices without TLS: only where no stranger comes.
func (c *checker) lanListener(key, address string) {
	if address == "" {
		return
	}
	c.listener(key, address)
	host, _, err := net.SplitHostPort(address)
	ip, errIP := netip.ParseAddr(host)
	if err == nil && host != "localhost" && (errIP != nil || !ip.IsLoopback() && !ip.IsPrivate()) {
		c.bad(key, host+" is not an address of a private network", "name this machine's own address there, such as 192.168.1.10: passwords of devices may come without TLS")
	}
}
