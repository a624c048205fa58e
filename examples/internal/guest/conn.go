package guest

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
)

// DialContext connects to address, such as 10.0.0.2:80, over network tcp or udp. It has the shape
// that http.Transport wants.
func (g *Guest) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, fmt.Errorf("guest %q: %w", g.name, err)
	}
	remote := fullAddress(to)
	switch network {
	case "tcp":
		c, err := gonet.DialContextTCP(ctx, g.stack, remote, protocolOf(to.Addr()))
		if err != nil {
			return nil, fmt.Errorf("guest %q: %w", g.name, err)
		}
		return c, nil
	case "udp":
		c, err := gonet.DialUDP(g.stack, nil, &remote, protocolOf(to.Addr()))
		if err != nil {
			return nil, fmt.Errorf("guest %q: %w", g.name, err)
		}
		return c, nil
	}
	return nil, fmt.Errorf("guest %q: %w", g.name, net.UnknownNetworkError(network))
}

// Listen accepts TCP connections to a port of the first address of the guest.
func (g *Guest) Listen(port uint16) (net.Listener, error) {
	return g.ListenAt(netip.AddrPortFrom(g.addr, port))
}

// ListenAt accepts TCP connections to a port of an address of the guest.
func (g *Guest) ListenAt(at netip.AddrPort) (net.Listener, error) {
	l, err := gonet.ListenTCP(g.stack, fullAddress(at), protocolOf(at.Addr()))
	if err != nil {
		return nil, fmt.Errorf("guest %q: %w", g.name, err)
	}
	return l, nil
}

// ListenPacket receives UDP datagrams sent to a port of the first address of the guest.
func (g *Guest) ListenPacket(port uint16) (net.PacketConn, error) {
	local := fullAddress(netip.AddrPortFrom(g.addr, port))
	c, err := gonet.DialUDP(g.stack, &local, nil, protocolOf(g.addr))
	if err != nil {
		return nil, fmt.Errorf("guest %q: port %s: %w", g.name, strconv.Itoa(int(port)), err)
	}
	return c, nil
}

func fullAddress(a netip.AddrPort) tcpip.FullAddress {
	return tcpip.FullAddress{NIC: nicID, Addr: addressOf(a.Addr()), Port: a.Port()}
}
