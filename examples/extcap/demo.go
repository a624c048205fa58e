package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/hvswitch/hvswitch/examples/internal/guest"
	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vswitch"
	"github.com/hvswitch/hvswitch/vswitch/capture"
)

// demo plays a VMM until it is interrupted.
func demo(socket string) (err error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	l, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	defer l.Close()
	host, err := vswitch.NewHost(nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, host.Close()) }()
	if err := errors.Join(os.Chmod(socket, 0o600), addGuests(ctx, host)); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "Serving captures on %s until interrupted\n", socket)
	return capture.Serve(ctx, l, host, nil)
}

// addGuests connects two guests that ping each other until ctx is done, and mallory, who does so in
// the name of alice.
func addGuests(ctx context.Context, host *vswitch.Host) error {
	if _, err := host.NewSwitch("lab", &vswitch.SwitchConfig{Type: vswitch.Private}); err != nil {
		return err
	}
	guests := map[string]*guest.Guest{}
	for i, name := range []string{"alice", "bob", "mallory"} {
		inside, outside, err := ports.Pipe(nil)
		if err != nil {
			return err
		}
		v, err := host.NewVNIC(name, outside, &vswitch.VNICConfig{Switch: "lab"})
		if err != nil {
			return err
		}
		mac := v.MAC()
		if name == "mallory" {
			mac = guests["alice"].MAC()
		}
		addr := netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)})
		if guests[name], err = guest.New(name, inside, mac, netip.PrefixFrom(addr, 24)); err != nil {
			return err
		}
	}
	for from, to := range map[string]string{"alice": "bob", "bob": "alice", "mallory": "bob"} {
		go func() {
			defer guests[from].Close()
			for ctx.Err() == nil {
				ping(ctx, guests[from], guests[to])
			}
		}()
	}
	return nil
}

// ping takes as long with an answer as without.
func ping(ctx context.Context, from, to *guest.Guest) {
	ctx, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	_, _ = from.Ping(ctx, to.Addr())
	<-ctx.Done()
}
