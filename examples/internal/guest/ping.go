package guest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// Ping sends one ICMP echo request to addr, waits for the reply and returns the time between.
func (g *Guest) Ping(ctx context.Context, addr netip.Addr) (time.Duration, error) {
	rtt, err := g.ping(ctx, addr)
	if err != nil {
		return 0, fmt.Errorf("guest %q: ping %v: %w", g.name, addr, err)
	}
	return rtt, nil
}

func (g *Guest) ping(ctx context.Context, addr netip.Addr) (time.Duration, error) {
	proto, request, reply := icmp.ProtocolNumber4, byte(header.ICMPv4Echo), byte(header.ICMPv4EchoReply)
	network := protocolOf(addr)
	if network == ipv6.ProtocolNumber {
		proto, request, reply = icmp.ProtocolNumber6, byte(header.ICMPv6EchoRequest), byte(header.ICMPv6EchoReply)
	}
	var wq waiter.Queue
	ep, terr := g.stack.NewEndpoint(proto, network, &wq)
	if terr != nil {
		return 0, errors.New(terr.String())
	}
	defer ep.Close()
	entry, ready := waiter.NewChannelEntry(waiter.ReadableEvents | waiter.EventErr | waiter.EventHUp)
	wq.EventRegister(&entry)
	defer wq.EventUnregister(&entry)
	if terr := ep.Connect(tcpip.FullAddress{NIC: nicID, Addr: addressOf(addr)}); terr != nil {
		return 0, errors.New(terr.String())
	}

	// Type, code, checksum, identifier and sequence number, RFC 792 and RFC 4443 section 4.1;
	// the endpoint fills in checksum and identifier. Then 56 bytes, as of any ping.
	echo := append([]byte{request, 0, 0, 0, 0, 0, 0, 1}, bytes.Repeat([]byte("hvswitch"), 7)...)
	start := time.Now()
	if _, terr := ep.Write(bytes.NewReader(echo), tcpip.WriteOptions{}); terr != nil {
		return 0, errors.New(terr.String())
	}
	for {
		var got bytes.Buffer
		_, terr := ep.Read(&got, tcpip.ReadOptions{})
		_, empty := terr.(*tcpip.ErrWouldBlock)
		switch {
		case terr == nil:
			if b := got.Bytes(); len(b) == len(echo) && b[0] == reply && bytes.Equal(b[6:], echo[6:]) {
				return time.Since(start), nil
			}
			continue
		case !empty:
			return 0, errors.New(terr.String())
		}
		select {
		case <-ready:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}
