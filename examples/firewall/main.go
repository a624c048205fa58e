// Command firewall answers how others extend the switch: firewall.go is an extension of a third party, a firewall that
// allows the connections of its rules, and the rest is a lab to try it in.
//
// Three guests with TCP/IP stacks of their own share a switch: a client, a web server and a database. The rules
// let the client reach the web server and the web server the database. Then the rules change, while the guests
// run. Everybody tries to reach every service each time, and the table shows who did.
//
//	go run ./examples/firewall
//
// It needs no root, and exits with 1 if a connection was made that no rule allows, or failed that one does.
package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/hvswitch/hvswitch/examples/internal/guest"
	"github.com/hvswitch/hvswitch/examples/internal/table"
	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vswitch"
	"github.com/hvswitch/hvswitch/vswitch/extension"
)

var (
	names    = []string{"client", "web", "db"}
	web      = netip.MustParseAddrPort("10.0.0.2:80")
	database = netip.MustParseAddrPort("10.0.0.3:5432")

	office  = []rule{{netip.MustParsePrefix("0.0.0.0/0"), web, "everybody reads"}, {netip.MustParsePrefix("10.0.0.2/32"), database, "web asks"}}
	repairs = []rule{{netip.MustParsePrefix("10.0.0.1/32"), database, "somebody mends the database"}}
)

func main() {
	if err := run(os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "firewall:", err)
		os.Exit(1)
	}
}

func run(out *os.File) (err error) {
	host, err := vswitch.NewHost(nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, host.Close()) }()
	fw := &firewall{rules: office}
	if _, err := host.NewSwitch("lab", &vswitch.SwitchConfig{
		Extensions: []extension.Binding{{Name: "firewall", Extension: fw}},
	}); err != nil {
		return err
	}
	var guests []*guest.Guest
	for i, name := range names {
		inside, outside, err := ports.Pipe(nil)
		if err != nil {
			return err
		}
		v, err := host.NewVNIC(name, outside, &vswitch.VNICConfig{Switch: "lab"})
		if err != nil {
			return err
		}
		g, err := guest.New(name, inside, v.MAC(), netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)}), 24))
		if err != nil {
			return err
		}
		defer g.Close()
		for _, service := range []netip.AddrPort{web, database} {
			if service.Addr() == g.Addr() {
				if _, err := g.Listen(service.Port()); err != nil {
					return err
				}
			}
		}
		guests = append(guests, g)
	}
	err = try(out, "with the rules of every day", fw, guests, office)
	fw.setRules(repairs)
	return errors.Join(err, try(out, "during repairs", fw, guests, repairs))
}

// try has every guest connect to every service and compares who does with the rules.
func try(out *os.File, when string, fw *firewall, guests []*guest.Guest, rules []rule) error {
	t := table.New("from", "to", "connected", "rule")
	var errs []error
	for _, g := range guests {
		for _, service := range []netip.AddrPort{web, database} {
			if service.Addr() == g.Addr() {
				continue
			}
			reason := "none"
			for _, r := range rules {
				if r.from.Contains(g.Addr()) && r.to == service {
					reason = r.why
				}
			}
			ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
			conn, err := g.DialContext(ctx, "tcp", service.String())
			cancel()
			if err == nil {
				conn.Close()
			}
			if (err == nil) != (reason != "none") {
				errs = append(errs, fmt.Errorf("%s to %s %s: %v, rule: %s", g.Name(), service, when, err, reason))
			}
			t.Row(g.Name(), service, err == nil, reason)
		}
	}
	fmt.Fprintf(out, "Connections %s:\n", when)
	t.Print(out)
	for _, d := range fw.denied() {
		fmt.Fprintln(out, "  denied:", d)
	}
	return errors.Join(errs...)
}
