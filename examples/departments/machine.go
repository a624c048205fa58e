package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"

	"github.com/hvswitch/hvswitch/examples/internal/guest"
	"github.com/hvswitch/hvswitch/ports"
)

// machine is a guest that tells its name to whoever connects.
type machine struct {
	*guest.Guest
	card     *sightings // what its card received
	listener net.Listener
	served   chan struct{}
}

const greetingPort = 7

// newMachine starts the n-th machine of the subnet.
func newMachine(name string, nic *ports.PipeEnd, mac ports.MAC, n int) (*machine, error) {
	m := &machine{card: newSightings(), served: make(chan struct{})}
	addr := netip.AddrFrom4([4]byte{10, 0, 0, byte(n)})
	var err error
	if m.Guest, err = guest.New(name, watched{nic, m.card}, mac, netip.PrefixFrom(addr, 24)); err != nil {
		return nil, err
	}
	if m.listener, err = m.Listen(greetingPort); err != nil {
		return nil, errors.Join(err, m.Guest.Close())
	}
	go m.serve()
	return m, nil
}

func (m *machine) serve() {
	defer close(m.served)
	for {
		c, err := m.listener.Accept()
		if err != nil {
			return
		}
		_, _ = io.WriteString(c, m.Name()) // the caller says what it missed
		_ = c.Close()
	}
}

// greet connects to another machine and reads its name.
func (m *machine) greet(ctx context.Context, to *machine) error {
	c, err := m.DialContext(ctx, "tcp", netip.AddrPortFrom(to.Addr(), greetingPort).String())
	if err != nil {
		return err
	}
	defer c.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := c.SetDeadline(deadline); err != nil {
			return err
		}
	}
	name, err := io.ReadAll(c)
	if err == nil && string(name) != to.Name() {
		err = fmt.Errorf("%s answered as %q", to.Name(), name)
	}
	return err
}

func (m *machine) close() error {
	err := m.listener.Close()
	err = errors.Join(err, m.Guest.Close())
	<-m.served
	return err
}
