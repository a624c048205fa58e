package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/hvswitch/hvswitch/examples/internal/guest"
	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vswitch"
)

// lab is a switch, the VMs on it and the host.
type lab struct {
	netdev, accel string
	image         *image
	dir           string // for sockets and the like
	host          *vswitch.Host
	sw            *vswitch.Switch
	stack         *guest.Guest // of the host
	cables        []*cable
	vms           []*vm
}

func newLab(name, netdev, accel string, img *image) (*lab, error) {
	l := &lab{netdev: netdev, accel: accel, image: img}
	if err := l.build(name); err != nil {
		return nil, errors.Join(err, l.close())
	}
	return l, nil
}

func (l *lab) build(name string) (err error) {
	if l.dir, err = os.MkdirTemp("", "vmm"); err != nil {
		return err
	}
	if l.host, err = vswitch.NewHost(&vswitch.HostConfig{Name: name}); err != nil {
		return err
	}
	if l.sw, err = l.host.NewSwitch("lab", &vswitch.SwitchConfig{Type: vswitch.Internal}); err != nil {
		return err
	}
	return l.addHost()
}

// addHost plugs the host in: a TCP/IP stack in this process, by a cable in memory.
func (l *lab) addHost() error {
	inside, outside, err := ports.Pipe(&ports.PipeConfig{Name: "host", Offloads: ports.OffloadAll})
	if err != nil {
		return err
	}
	v, err := l.host.NewVNIC("host", outside, &vswitch.VNICConfig{Switch: l.sw.Name(), Management: true})
	if err != nil {
		return errors.Join(err, outside.Close())
	}
	l.stack, err = guest.New("host", inside, v.MAC(), address(254))
	return err
}

// address is that of the n-th machine.
func address(n int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(n)}), 24)
}

// boot starts VMs on the switch and waits until their guests are ready.
func (l *lab) boot(ctx context.Context, names ...string) error {
	for i, name := range names {
		m, err := l.plug(name, i+1)
		if err != nil {
			return err
		}
		if err := l.start(m); err != nil {
			return err
		}
	}
	for _, v := range l.vms {
		if err := v.ready(ctx, 0); err != nil {
			return err
		}
	}
	return nil
}

// plug connects the n-th machine to the switch.
func (l *lab) plug(name string, n int) (machine, error) {
	m := machine{name: name, addr: address(n), mac: ports.MAC{0x52, 0x54, 0, 0, 0, byte(n)}, accel: l.accel, image: l.image, dir: l.dir}
	c, err := netdevs[l.netdev](l.dir, name)
	if err != nil {
		return m, fmt.Errorf("%s: %w", name, err)
	}
	l.cables = append(l.cables, c)
	m.args, m.files = append(c.args, card(l.netdev, l.accel, m.mac)...), c.files
	// Only frames from the address of its vNIC pass, so the guest has to have the same.
	_, err = l.host.NewVNIC(name, c.port, &vswitch.VNICConfig{Switch: l.sw.Name(), MAC: m.mac})
	if err != nil {
		return m, errors.Join(err, c.port.Close())
	}
	return m, nil
}

// start runs a VM.
func (l *lab) start(m machine) error {
	v, err := m.start()
	if err != nil {
		return fmt.Errorf("%s: %w", m.name, err)
	}
	l.vms = append(l.vms, v)
	return nil
}

// close ends the VMs and removes everything.
func (l *lab) close() error {
	for _, v := range l.vms {
		v.stop()
	}
	var errs []error
	if l.stack != nil {
		errs = append(errs, l.stack.Close())
	}
	if l.host != nil {
		errs = append(errs, l.host.Close())
	}
	for _, c := range l.cables {
		c.closeFiles()
	}
	return errors.Join(append(errs, os.RemoveAll(l.dir))...)
}
