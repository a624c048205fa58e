package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"

	"github.com/hvswitch/hvswitch/examples/internal/guest"
	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vswitch"
)

// lab is a switch with guests.
type lab struct {
	host     *vswitch.Host
	sw       *vswitch.Switch
	guests   []*guest.Guest
	sites    []*http.Server
	intruder *ports.PipeEnd // a card without a guest, to send any frame from
}

func newLab() (*lab, error) {
	host, err := vswitch.NewHost(nil)
	if err != nil {
		return nil, err
	}
	l := &lab{host: host}
	if err := l.build(); err != nil {
		return nil, errors.Join(err, l.close())
	}
	return l, nil
}

func (l *lab) build() (err error) {
	if l.sw, err = l.host.NewSwitch("lab", &vswitch.SwitchConfig{Type: vswitch.Private}); err != nil {
		return err
	}
	// Two guests send from the address that the host gave their vNIC. The third has one of its
	// own, as a container in a VM has, so its vNIC must be allowed that; the switch learns it.
	own := ports.MAC{0x02, 0, 0x5e, 0, 0, 0x03}
	return errors.Join(
		l.addGuest("alice", "10.0.0.1/24", ports.MAC{}),
		l.addGuest("bob", "10.0.0.2/24", ports.MAC{}),
		l.addGuest("carol", "10.0.0.3/24", own),
		l.addIntruder("mallory"),
	)
}

// plug connects a vNIC to the switch and returns it with the end of its cable that the guest gets.
func (l *lab) plug(name string, cfg vswitch.VNICConfig) (*vswitch.VNIC, *ports.PipeEnd, error) {
	inside, outside, err := ports.Pipe(&ports.PipeConfig{Name: name})
	if err != nil {
		return nil, nil, err
	}
	cfg.Switch = l.sw.Name()
	v, err := l.host.NewVNIC(name, outside, &cfg)
	return v, inside, err
}

// addGuest starts a guest that sends from mac, or from the address of its vNIC.
func (l *lab) addGuest(name, prefix string, mac ports.MAC) error {
	v, nic, err := l.plug(name, vswitch.VNICConfig{AllowSpoofing: !mac.IsZero()})
	if err != nil {
		return err
	}
	if mac.IsZero() {
		mac = v.MAC()
	}
	g, err := guest.New(name, nic, mac, netip.MustParsePrefix(prefix))
	if err != nil {
		return err
	}
	l.guests = append(l.guests, g)
	return l.serve(g)
}

// serve opens the web site of a guest.
func (l *lab) serve(g *guest.Guest) error {
	listener, err := g.Listen(80)
	if err != nil {
		return err
	}
	site := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, page(g.Name()))
	})}
	l.sites = append(l.sites, site)
	go site.Serve(listener)
	return nil
}

// pageSize is enough for a dozen frames.
const pageSize = 16 << 10

// page returns what a guest serves, which nobody else's page equals.
func page(name string) string {
	line := fmt.Sprintf("This is the page of %s.\n", name)
	return strings.Repeat(line, pageSize/len(line)+1)[:pageSize]
}

func (l *lab) addIntruder(name string) (err error) {
	_, l.intruder, err = l.plug(name, vswitch.VNICConfig{})
	return err
}

func (l *lab) close() error {
	var errs []error
	for _, s := range l.sites {
		errs = append(errs, s.Close())
	}
	for _, g := range l.guests {
		errs = append(errs, g.Close())
	}
	return errors.Join(append(errs, l.host.Close())...)
}
