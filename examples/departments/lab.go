package main

import (
	"errors"
	"fmt"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vlan"
	"github.com/hvswitch/hvswitch/vswitch"
)

// lab is two hosts, a physical switch, and the machines on them.
type lab struct {
	hosts    map[string]*vswitch.Host
	machines []*machine
	trunks   []*trunk
}

// trunk is a cable between a host and the physical switch.
type trunk struct {
	host string
	seen *sightings // in both directions
}

func newLab(planned []place) (*lab, error) {
	l := &lab{hosts: map[string]*vswitch.Host{}}
	if err := l.build(planned); err != nil {
		return nil, errors.Join(err, l.close())
	}
	return l, nil
}

func (l *lab) build(planned []place) error {
	if err := l.addLAN(); err != nil {
		return err
	}
	for _, name := range []string{host1, host2} {
		if err := l.addHost(name); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	if _, err := l.hosts[host1].NewSwitch(rnd, &vswitch.SwitchConfig{Type: vswitch.Private}); err != nil {
		return err
	}
	for _, p := range planned {
		if err := l.addMachine(p); err != nil {
			return err
		}
	}
	return nil
}

// newHost makes a host. The addresses of its vNICs are from a range of its own, as they meet those of
// other hosts on the LAN.
func (l *lab) newHost(name string) (*vswitch.Host, error) {
	n := byte(len(l.hosts))
	h, err := vswitch.NewHost(&vswitch.HostConfig{
		Name:    name,
		MACPool: vswitch.MACRange{First: ports.MAC{2, 0, 0, 0, n, 0}, Last: ports.MAC{2, 0, 0, 0, n, 255}},
	})
	if err != nil {
		return nil, err
	}
	l.hosts[name] = h
	return h, nil
}

// addLAN makes the physical switch: a switch whose vNICs are the sockets of its cables.
func (l *lab) addLAN() error {
	h, err := l.newHost(lan)
	if err != nil {
		return err
	}
	_, err = h.NewSwitch(lan, nil)
	return err
}

// addHost makes a host with its external switches and cables to the physical one.
func (l *lab) addHost(name string) error {
	h, err := l.newHost(name)
	if err != nil {
		return err
	}
	seen, err := l.addUplink(h, vms, "eth0", vlan.Trunk(0, vlan.MustParseSet(trunkVLANs), nil))
	if err != nil {
		return err
	}
	l.trunks = append(l.trunks, &trunk{host: name, seen: seen})
	_, err = l.addUplink(h, mgmt, "eth1", vlan.Access(management))
	return err
}

// addUplink makes an external switch whose NIC is plugged into a socket of the physical switch, and
// returns what will be seen on the cable.
func (l *lab) addUplink(h *vswitch.Host, sw, nic string, socket vlan.Mode) (*sightings, error) {
	cable := h.Name() + " " + nic
	near, far, err := ports.Pipe(&ports.PipeConfig{Name: cable})
	if err != nil {
		return nil, err
	}
	seen := newSightings()
	if _, err := h.AddNIC(nic, watched{near, seen}); err != nil {
		return nil, err
	}
	if _, err := h.NewSwitch(sw, &vswitch.SwitchConfig{Type: vswitch.External, Uplink: nic}); err != nil {
		return nil, err
	}
	_, err = l.hosts[lan].NewVNIC(cable, watched{far, seen}, &vswitch.VNICConfig{
		Switch:        lan,
		VLAN:          socket,
		AllowSpoofing: true, // a physical switch learns whoever is behind
	})
	return seen, err
}

// addMachine starts a machine where it is planned to be. All are in one IP subnet.
func (l *lab) addMachine(p place) error {
	inside, outside, err := ports.Pipe(&ports.PipeConfig{Name: p.machine})
	if err != nil {
		return err
	}
	v, err := l.hosts[p.host].NewVNIC(p.machine, outside, &vswitch.VNICConfig{
		Switch:     p.sw,
		VLAN:       p.vlan,
		Management: p.ofManagement,
	})
	if err != nil {
		return err
	}
	m, err := newMachine(p.machine, inside, v.MAC(), len(l.machines)+1)
	if err != nil {
		return err
	}
	l.machines = append(l.machines, m)
	return nil
}

func (l *lab) close() error {
	var errs []error
	for _, m := range l.machines {
		errs = append(errs, m.close())
	}
	for _, h := range l.hosts {
		errs = append(errs, h.Close())
	}
	return errors.Join(errs...)
}
