package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"strings"
	"sync"

	"github.com/hvswitch/hvswitch/examples/internal/guest"
	"github.com/hvswitch/hvswitch/overlay"
	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vswitch"
)

// machine is a VM that runs. It tells its name to whoever connects and tells his.
type machine struct {
	*guest.Guest
	vm        *vm
	card      card
	vnic      *vswitch.VNIC // on the host where it is
	listeners []net.Listener
	serving   sync.WaitGroup

	mu      sync.Mutex
	callers map[string]bool // who has connected
}

// card is the side of a VM's network card that its host has. It stays when the vNIC is closed: as the memory of a
// VM does, it goes to the next host.
type card struct{ *ports.PipeEnd }

// Close implements ports.Backend.
func (card) Close() error { return nil }

const (
	namePort = 7

	// window is a quarter of what the queues between two VMs hold, so that nothing is lost in them.
	window = 64 * 1500
)

func newMachine(v *vm) (*machine, error) {
	inside, outside, err := ports.Pipe(&ports.PipeConfig{Name: v.name})
	if err != nil {
		return nil, err
	}
	m := &machine{vm: v, card: card{outside}, callers: map[string]bool{}}
	if m.Guest, err = guest.New(v.name, inside, v.mac, v.cas[0], v.cas[1:]...); err != nil {
		return nil, err
	}
	var routers []netip.Addr
	for _, p := range v.in.prefixes {
		routers = append(routers, (&overlay.CustomerRoute{Destination: p}).Router())
	}
	m.SetRouters(routers...)
	if err := m.SetWindow(window); err != nil {
		return nil, errors.Join(err, m.close())
	}
	for _, ca := range v.cas {
		listener, err := m.ListenAt(netip.AddrPortFrom(ca.Addr(), namePort))
		if err != nil {
			return nil, errors.Join(err, m.close())
		}
		m.listeners = append(m.listeners, listener)
		m.serving.Go(func() { m.serve(listener) })
	}
	return m, nil
}

func (m *machine) serve(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		m.serving.Go(func() {
			defer c.Close()
			caller, err := bufio.NewReader(c).ReadString('\n')
			if err != nil {
				return // the caller says what it missed
			}
			m.mu.Lock()
			m.callers[strings.TrimSuffix(caller, "\n")] = true
			m.mu.Unlock()
			_, _ = io.WriteString(c, m.vm.name)
		})
	}
}

// heard returns who has connected.
func (m *machine) heard() map[string]bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.callers)
}

// whoIs connects to an address and reads the name of who is there.
func (m *machine) whoIs(ctx context.Context, ca netip.Addr) (string, error) {
	c, err := m.DialContext(ctx, "tcp", netip.AddrPortFrom(ca, namePort).String())
	if err != nil {
		return "", err
	}
	defer c.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := c.SetDeadline(deadline); err != nil {
			return "", err
		}
	}
	if _, err := fmt.Fprintln(c, m.vm.name); err != nil {
		return "", err
	}
	name, err := io.ReadAll(c)
	return string(name), err
}

func (m *machine) close() error {
	var errs []error
	for _, l := range m.listeners {
		errs = append(errs, l.Close())
	}
	errs = append(errs, m.Guest.Close())
	m.serving.Wait()
	return errors.Join(errs...)
}
