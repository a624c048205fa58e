// Package guest is a virtual machine as far as a switch can tell: a network card, an address and a
// TCP/IP stack, which is that of gVisor. The examples use it where a real machine would need a
// hypervisor.
//
//	inside, outside, err := ports.Pipe(nil)
//	// outside goes to the switch
//	g, err := guest.New("vm1", inside, mac, netip.MustParsePrefix("10.0.0.1/24"))
//	rtt, err := g.Ping(ctx, netip.MustParseAddr("10.0.0.2"))
package guest

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/qdisc/fifo"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"

	"github.com/hvswitch/hvswitch/ports"
)

// Guest is a machine with one network card and one address or more. Its methods may be called from any
// goroutine.
type Guest struct {
	name   string
	addr   netip.Addr
	link   *link
	stack  *stack.Stack
	routes []tcpip.Route // of its subnets
}

const (
	nicID = 1

	// txQueueLen is the number of frames that wait for room on the card before the stack
	// drops: that of a Linux interface.
	txQueueLen = 1000
)

// New starts a guest on nic, a card in memory whose queues implement ports.Notifier. The guest sends
// from mac and has the address of prefix, IPv4 or IPv6, in the subnet of prefix, and those of more. It
// owns nic from then on; after an error nic is closed.
func New(name string, nic ports.Backend, mac ports.MAC, prefix netip.Prefix, more ...netip.Prefix) (*Guest, error) {
	g := &Guest{name: name, addr: prefix.Addr().Unmap()}
	if err := g.start(nic, mac, append([]netip.Prefix{prefix}, more...)); err != nil {
		return nil, fmt.Errorf("guest %q: %w", name, errors.Join(err, nic.Close()))
	}
	return g, nil
}

func (g *Guest) start(nic ports.Backend, mac ports.MAC, prefixes []netip.Prefix) error {
	for _, p := range prefixes {
		if !p.IsValid() {
			return fmt.Errorf("address %v is not a prefix", p)
		}
	}
	if !mac.IsUnicast() {
		return fmt.Errorf("MAC %v is not that of one station", mac)
	}
	var err error
	if g.link, err = newLink(nic, mac); err != nil {
		return err
	}
	opts := stack.Options{
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol},
		HandleLocal:        true,
	}
	if slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Addr().Unmap().Is4() }) {
		opts.NetworkProtocols = append(opts.NetworkProtocols, arp.NewProtocol, ipv4.NewProtocol)
		opts.TransportProtocols = append(opts.TransportProtocols, icmp.NewProtocol4)
	}
	if slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return !p.Addr().Unmap().Is4() }) {
		opts.NetworkProtocols = append(opts.NetworkProtocols, ipv6.NewProtocol)
		opts.TransportProtocols = append(opts.TransportProtocols, icmp.NewProtocol6)
	}
	g.stack = stack.New(opts)
	if err := g.configure(prefixes); err != nil {
		g.stack.Destroy()
		return errors.New(err.String())
	}
	g.link.start()
	return nil
}

func (g *Guest) configure(prefixes []netip.Prefix) tcpip.Error {
	sack := tcpip.TCPSACKEnabled(true)
	if err := g.stack.SetTransportProtocolOption(tcp.ProtocolNumber, &sack); err != nil {
		return err
	}
	// One queue, which one goroutine empties: a transmit queue of a card wants no more.
	nicOpts := stack.NICOptions{Name: "eth0", QDisc: fifo.New(g.link, 1, txQueueLen)}
	if err := g.stack.CreateNICWithOptions(nicID, g.link, nicOpts); err != nil {
		return err
	}
	for _, p := range prefixes {
		addr := tcpip.ProtocolAddress{
			Protocol: protocolOf(p.Addr()),
			AddressWithPrefix: tcpip.AddressWithPrefix{
				Address:   addressOf(p.Addr()),
				PrefixLen: p.Bits(),
			},
		}
		if err := g.stack.AddProtocolAddress(nicID, addr, stack.AddressProperties{}); err != nil {
			return err
		}
		g.routes = append(g.routes, tcpip.Route{Destination: addr.AddressWithPrefix.Subnet(), NIC: nicID})
	}
	g.stack.SetRouteTable(g.routes)
	return nil
}

// SetRouters makes the guest send what is for other subnets to a router in its own: of each IP version to the
// first one.
func (g *Guest) SetRouters(routers ...netip.Addr) {
	all := slices.Clone(g.routes)
	for _, r := range routers {
		everywhere := header.IPv6EmptySubnet
		if r.Unmap().Is4() {
			everywhere = header.IPv4EmptySubnet
		}
		all = append(all, tcpip.Route{Destination: everywhere, Gateway: addressOf(r), NIC: nicID})
	}
	g.stack.SetRouteTable(all)
}

// SetWindow bounds the bytes that another may send to a TCP connection of the guest before they are read. It
// is for connections made later. By default the window grows to some MiB, which is more than short queues hold.
func (g *Guest) SetWindow(bytes int) error {
	grow := tcpip.TCPModerateReceiveBufferOption(false)
	size := tcpip.TCPReceiveBufferSizeRangeOption{Min: 1, Default: bytes, Max: bytes}
	for _, o := range []tcpip.SettableTransportProtocolOption{&grow, &size} {
		if err := g.stack.SetTransportProtocolOption(tcp.ProtocolNumber, o); err != nil {
			return fmt.Errorf("guest %q: window of %d bytes: %s", g.name, bytes, err)
		}
	}
	return nil
}

func addressOf(a netip.Addr) tcpip.Address { return tcpip.AddrFromSlice(a.Unmap().AsSlice()) }

func protocolOf(a netip.Addr) tcpip.NetworkProtocolNumber {
	if a.Unmap().Is4() {
		return ipv4.ProtocolNumber
	}
	return ipv6.ProtocolNumber
}

// Name returns the name given to New.
func (g *Guest) Name() string { return g.name }

// Addr returns the first address of the guest.
func (g *Guest) Addr() netip.Addr { return g.addr }

// MAC returns the address of the guest's card.
func (g *Guest) MAC() ports.MAC { return g.link.mac }

// Close switches the guest off: its connections and listeners fail, its goroutines end and its card
// is closed. A second call does nothing and returns nil.
func (g *Guest) Close() error {
	g.link.stop()
	g.stack.Destroy()
	return g.link.nic.Close()
}
