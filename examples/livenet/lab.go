package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"

	"github.com/hvswitch/hvswitch/examples/internal/table"
	"github.com/hvswitch/hvswitch/ports/afpacket"
	"github.com/hvswitch/hvswitch/ports/tap"
	"github.com/hvswitch/hvswitch/vswitch"
)

// lab is an external switch and the machines that it connects.
type lab struct {
	prefix   string    // of the names of namespaces
	switchNS namespace // where the uplink of the switch is
	host     *vswitch.Host
	sw       *vswitch.Switch
	uplink   *vswitch.NIC

	vm1, vm2, mgmt, outside *machine

	undo []func() error
}

// machine is a namespace with one interface, eth0.
type machine struct {
	name string
	ns   namespace
	addr netip.Prefix
	how  string // it is attached
}

const (
	nic    = "eth0"   // of a machine
	uplink = "uplink" // of the switch
)

func newLab() *lab {
	var suffix [3]byte
	rand.Read(suffix[:])
	return &lab{prefix: "livenet-" + hex.EncodeToString(suffix[:])}
}

func (l *lab) machines() []*machine { return []*machine{l.vm1, l.vm2, l.mgmt, l.outside} }

// build makes everything; what it has made, remove removes, however far it came.
func (l *lab) build(ctx context.Context) (err error) {
	if l.host, err = vswitch.NewHost(&vswitch.HostConfig{Name: l.prefix}); err != nil {
		return err
	}
	// Namespaces go after the host has let go of the devices in them.
	defer func() { l.undo = append(l.undo, l.host.Close) }()

	if l.switchNS, err = l.addNamespace(ctx, "switch"); err != nil {
		return err
	}
	// 198.18.0.0/15 is for tests of network devices (RFC 2544) and in nobody's network.
	for _, m := range []struct {
		at              **machine
		name, addr, how string
	}{
		{&l.vm1, "vm1", "198.18.0.1/24", "TAP"},
		{&l.vm2, "vm2", "198.18.0.2/24", "TAP"},
		{&l.mgmt, "host", "198.18.0.3/24", "TAP, management vNIC"},
		{&l.outside, "outside", "198.18.0.4/24", "veth, behind the uplink"},
	} {
		ns, err := l.addNamespace(ctx, m.name)
		if err != nil {
			return err
		}
		*m.at = &machine{name: m.name, ns: ns, addr: netip.MustParsePrefix(m.addr), how: m.how}
	}
	if err := l.addSwitch(ctx); err != nil {
		return err
	}
	for _, m := range []*machine{l.vm1, l.vm2, l.mgmt} {
		if err := l.addVNIC(ctx, m, vswitch.VNICConfig{Management: m == l.mgmt}); err != nil {
			return err
		}
	}
	return nil
}

func (l *lab) addNamespace(ctx context.Context, name string) (namespace, error) {
	ns := namespace(l.prefix + "-" + name)
	if _, err := ip(ctx, "netns", "add", string(ns)); err != nil {
		return "", err
	}
	l.undo = append(l.undo, func() error {
		_, err := ip(context.Background(), "netns", "del", string(ns))
		return err
	})
	// What the kernel says by itself over IPv6 would blur the counters.
	if err := inNamespace(string(ns), func() error {
		err := os.WriteFile("/proc/sys/net/ipv6/conf/default/disable_ipv6", []byte("1"), 0)
		if errors.Is(err, os.ErrNotExist) {
			return nil // a kernel without IPv6
		}
		return err
	}); err != nil {
		return "", err
	}
	_, err := ns.ip(ctx, "link", "set", "lo", "up")
	return ns, err
}

// addSwitch makes the cable to the outside and a switch that has the near end as its uplink.
func (l *lab) addSwitch(ctx context.Context) error {
	if _, err := l.switchNS.ip(ctx, "link", "add", uplink, "type", "veth", "peer", "name", nic, "netns", string(l.outside.ns)); err != nil {
		return err
	}
	if _, err := l.switchNS.ip(ctx, "link", "set", uplink, "up"); err != nil {
		return err
	}
	if err := l.outside.configure(ctx); err != nil {
		return err
	}
	var near *afpacket.Interface
	err := inNamespace(string(l.switchNS), func() (err error) {
		near, err = afpacket.Open(uplink, nil)
		return err
	})
	if err != nil {
		return err
	}
	if l.uplink, err = l.host.AddNIC(uplink, near); err != nil {
		return errors.Join(err, near.Close())
	}
	l.sw, err = l.host.NewSwitch("live", &vswitch.SwitchConfig{Type: vswitch.External, Uplink: uplink})
	return err
}

// addVNIC attaches a machine to the switch by a TAP in the machine's namespace.
func (l *lab) addVNIC(ctx context.Context, m *machine, cfg vswitch.VNICConfig) error {
	var t *tap.TAP
	err := inNamespace(string(m.ns), func() (err error) {
		t, err = tap.Open(&tap.Config{Name: nic, KeepDown: true})
		return err
	})
	if err != nil {
		return fmt.Errorf("%s: %w", m.name, err)
	}
	cfg.Switch = l.sw.Name()
	v, err := l.host.NewVNIC(m.name, t, &cfg)
	if err != nil {
		return errors.Join(err, t.Close())
	}
	// The machine must send from the address of its vNIC.
	if _, err := m.ns.ip(ctx, "link", "set", nic, "address", v.MAC().String()); err != nil {
		return err
	}
	return m.configure(ctx)
}

// configure gives the interface of the machine its address and brings it up.
func (m *machine) configure(ctx context.Context) error {
	if _, err := m.ns.ip(ctx, "addr", "add", m.addr.String(), "dev", nic); err != nil {
		return err
	}
	_, err := m.ns.ip(ctx, "link", "set", nic, "up")
	return err
}

// remove takes down what build has made, the last first.
func (l *lab) remove() error {
	var errs []error
	for i := len(l.undo) - 1; i >= 0; i-- {
		errs = append(errs, l.undo[i]())
	}
	l.undo = nil
	return errors.Join(errs...)
}

func (l *lab) print(w io.Writer) {
	fmt.Fprintf(w, "\nMachines on switch %q (%s)\n", l.sw.Name(), l.sw.Config().Type)
	t := table.New("machine", "address", "MAC", "attached by")
	for _, m := range l.machines() {
		mac := "learned by the switch"
		if v := l.host.VNIC(m.name); v != nil {
			mac = v.MAC().String()
		}
		t.Row(m.name, m.addr.Addr(), mac, m.how)
	}
	t.Print(w)
}
