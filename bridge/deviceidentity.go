package bridge

import (
	"context"

	"github.com/sealpost/sealpost/bridge/internal/keyring"
)

// A device with an address of its own signs with a key of its own, made when it first sends: whoever gets hold of its password
// signs as the device and as nobody else. Its mail asks for answers to the account, whose user reads them.

// deviceOrigin is an account through which a device sends.
type deviceOrigin struct {
	*Account
	device *Device
}

// meet implements origin: it lends the key that speaks for the device.
func (o deviceOrigin) meet(ctx context.Context, m *outgoing) (err error) {
	m.ring = o.Account.ring
	if address := o.device.options.Address; address != "" {
		m.ring, err = o.bridge.deviceKeys.sending(ctx, address)
	}
	return err
}

func (o deviceOrigin) ringOf(m *outgoing) *keyring.Ring { return m.ring }

// Address in the From field of what the device sends.
func (d *Device) Address() string {
	if d.options.Address != "" {
		return normalized(d.options.Address)
	}
	return d.account.Address()
}

// deviceAt is the device that has an address for itself.
func (b *Bridge) deviceAt(address string) (*Device, bool) {
	for _, d := range b.devices {
		if d.options.Address != "" && d.Address() == normalized(address) {
			return d, true
		}
	}
	return nil, false
}

// DeviceOwner is the owner of the keys of a device that has that address for itself; false if there is none.
func (b *Bridge) DeviceOwner(ctx context.Context, address string) (*Owner, bool, error) {
	d, ok := b.deviceAt(address)
	if !ok {
		return nil, false, nil
	}
	o, err := b.deviceKeys.owner(ctx, d.Address())
	return o, true, err
}

// ownDevices are the addresses of the account's devices that have one.
func (a *Account) ownDevices() (addresses []string) {
	for _, d := range a.bridge.devices {
		if d.account == a && d.options.Address != "" {
			addresses = append(addresses, d.Address())
		}
	}
	return addresses
}
