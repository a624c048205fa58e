package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"github.com/hvswitch/hvswitch/overlay"
	"github.com/hvswitch/hvswitch/overlay/store"
	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vswitch"
)

const (
	switchName = "prod"
	uplinkName = "eth0"

	// providerMTU leaves room for the outer headers, so guests have the 1500 bytes that they expect.
	providerMTU = 1600
)

// lab is hosts on a provider network, with the VMs of the plan.
type lab struct {
	plan          *plan
	encapsulation overlay.Encapsulation
	store         *store.Memory
	provider      *vswitch.Host // has one switch, which plays the physical one
	hosts         []*host
	machines      []*machine // in the order of plan.vms

	stop      context.CancelFunc
	following sync.WaitGroup
}

// host is what a VMM has on each of its machines.
type host struct {
	*vswitch.Host
	name     string
	pa       netip.Prefix
	sw       *vswitch.Switch
	engine   *overlay.Engine
	follower *store.Follower
	scope    []*tenant // whose networks it follows
}

// providerAddress returns the address of a host in the provider network.
func providerAddress(host int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(host + 1)}), 24)
}

func newLab(p *plan, e overlay.Encapsulation, wire *recording) (*lab, error) {
	l := &lab{plan: p, encapsulation: e, store: store.NewMemory()}
	var ctx context.Context
	ctx, l.stop = context.WithCancel(context.Background())
	if err := l.build(ctx, wire); err != nil {
		return nil, errors.Join(err, l.close())
	}
	return l, nil
}

func (l *lab) build(ctx context.Context, wire *recording) (err error) {
	if l.provider, err = vswitch.NewHost(&vswitch.HostConfig{Name: "provider"}); err != nil {
		return err
	}
	if _, err := l.provider.NewSwitch("provider", nil); err != nil {
		return err
	}
	if wire != nil {
		if err := wire.start(l.provider); err != nil {
			return err
		}
	}
	for n := range l.plan.hosts {
		if err := l.addHost(ctx, n); err != nil {
			return err
		}
	}
	for _, v := range l.plan.vms {
		if err := l.addMachine(v); err != nil {
			return err
		}
	}
	_, err = l.store.Commit(ctx, l.policy())
	return err
}

// addHost makes a host: a switch with an overlay, an uplink to the provider network, and a follower of the policy.
func (l *lab) addHost(ctx context.Context, n int) (err error) {
	h := &host{name: fmt.Sprint("host", n+1), pa: providerAddress(n)}
	if h.Host, err = vswitch.NewHost(&vswitch.HostConfig{Name: h.name}); err != nil {
		return err
	}
	l.hosts = append(l.hosts, h)
	if err := l.addUplink(h); err != nil {
		return err
	}
	h.engine, err = overlay.NewEngine(&overlay.Config{
		Addresses: []overlay.ProviderAddress{{Address: h.pa, MAC: ports.MAC{2, 0, 0, 0, 0, byte(n + 1)}}},
		MTU:       providerMTU,
	})
	if err != nil {
		return err
	}
	h.sw, err = h.NewSwitch(switchName, &vswitch.SwitchConfig{
		Type: vswitch.External, Uplink: uplinkName, Overlay: h.engine,
	})
	if err != nil {
		return err
	}
	h.follower = store.NewFollower(l.store, h.engine)
	h.follow(l.plan.scope(n))
	l.following.Go(func() { _ = h.follower.Run(ctx, nil) }) // ends with ctx; what does not arrive is missed
	return nil
}

// addUplink plugs a NIC of the host into a socket of the provider network.
func (l *lab) addUplink(h *host) error {
	near, far, err := ports.Pipe(&ports.PipeConfig{Name: h.name + " " + uplinkName, MTU: providerMTU})
	if err != nil {
		return err
	}
	if _, err := h.AddNIC(uplinkName, near); err != nil {
		return errors.Join(err, near.Close())
	}
	_, err = l.provider.NewVNIC(h.name, far, &vswitch.VNICConfig{
		Switch:        "provider",
		AllowSpoofing: true, // a physical switch learns whoever is behind
	})
	return err
}

// addMachine starts a VM where it is planned to be.
func (l *lab) addMachine(v *vm) error {
	m, err := newMachine(v)
	if err != nil {
		return err
	}
	l.machines = append(l.machines, m)
	return l.plug(m)
}

// plug connects the card of a VM to the switch of its host, in its virtual subnet.
func (l *lab) plug(m *machine) (err error) {
	m.vnic, err = l.hosts[m.vm.host].NewVNIC(m.vm.name, m.card, &vswitch.VNICConfig{
		Switch: switchName,
		VSID:   m.vm.in.vsid,
		MAC:    m.vm.mac,
	})
	return err
}

// machine returns the machine of a VM.
func (l *lab) machine(v *vm) *machine {
	for _, m := range l.machines {
		if m.vm == v {
			return m
		}
	}
	return nil
}

// first returns the first VM of the plan of which something is true, or nil.
func (l *lab) first(is func(*vm) bool) *vm {
	for _, v := range l.plan.vms {
		if is(v) {
			return v
		}
	}
	return nil
}

func (l *lab) close() error {
	l.stop()
	l.following.Wait()
	var errs []error
	for _, m := range l.machines {
		errs = append(errs, m.close())
	}
	for _, h := range l.hosts {
		errs = append(errs, h.Close())
	}
	if l.provider != nil {
		errs = append(errs, l.provider.Close())
	}
	return errors.Join(append(errs, l.store.Close())...)
}
