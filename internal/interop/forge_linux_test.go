package interop

import (
	"encoding/binary"
	"net"
	"net/netip"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// Flags of TCP.
const (
	tcpFIN = 1 << iota
	tcpSYN
	tcpRST
	_
	tcpACK
)

// tcpTo returns a segment from g to another guest that no connection knows.
func (g *guest) tcpTo(to *guest, from, port uint16, flags byte) []byte {
	ip := g.ipv4To(to, layers.IPProtocolTCP)
	tcp := &layers.TCP{
		SrcPort: layers.TCPPort(from), DstPort: layers.TCPPort(port), Seq: 1, Window: 1000,
		FIN: flags&tcpFIN != 0, SYN: flags&tcpSYN != 0, RST: flags&tcpRST != 0, ACK: flags&tcpACK != 0,
	}
	if tcp.ACK {
		tcp.Ack = 1
	}
	g.must(tcp.SetNetworkLayerForChecksum(ip))
	return g.frame(g.etherTo(to), ip, tcp)
}

// unreachableTo returns an ICMP error from g that quotes a segment which the other guest never sent.
func (g *guest) unreachableTo(to *guest, port, from uint16) []byte {
	quoted := to.tcpTo(g, from, port, tcpACK)[14:]
	code := layers.CreateICMPv4TypeCode(layers.ICMPv4TypeDestinationUnreachable, layers.ICMPv4CodePort)
	icmp := &layers.ICMPv4{TypeCode: code}
	return g.frame(g.etherTo(to), g.ipv4To(to, layers.IPProtocolICMPv4), icmp, gopacket.Payload(quoted))
}

func (g *guest) etherTo(to *guest) *layers.Ethernet {
	src, dst := g.vnic.MAC(), to.vnic.MAC()
	return &layers.Ethernet{SrcMAC: src[:], DstMAC: dst[:], EthernetType: layers.EthernetTypeIPv4}
}

func (g *guest) ipv4To(to *guest, p layers.IPProtocol) *layers.IPv4 {
	return &layers.IPv4{
		Version: 4, TTL: 64, Protocol: p,
		SrcIP: netip.MustParseAddr(g.addr).AsSlice(), DstIP: netip.MustParseAddr(to.addr).AsSlice(),
	}
}

func (g *guest) frame(l ...gopacket.SerializableLayer) []byte {
	b := gopacket.NewSerializeBuffer()
	g.must(gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, l...))
	return b.Bytes()
}

func (g *guest) must(err error) {
	g.t.Helper()
	require.NoError(g.t, err)
}

// packetSocket returns a socket on the interface of the guest that receives frames of the protocol; 0
// means none.
func (g *guest) packetSocket(protocol uint16) (fd int) {
	g.t.Helper()
	g.must(g.inside(func() error {
		i, err := net.InterfaceByName(nic)
		if err != nil {
			return err
		}
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0); err != nil {
			return err
		}
		g.t.Cleanup(func() { unix.Close(fd) })
		network := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, protocol))
		return unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: i.Index, Protocol: network})
	}))
	return fd
}

// injects sends a frame on the interface of the guest, past its kernel.
func (g *guest) injects(frame []byte) {
	g.t.Helper()
	if g.raw == 0 {
		g.raw = g.packetSocket(0)
	}
	_, err := unix.Write(g.raw, frame)
	g.must(err)
}

// counts returns a function that counts the IPv4 packets from another guest that have arrived at the
// interface since its last call.
func (g *guest) counts(from *guest) func() int {
	g.t.Helper()
	fd := g.packetSocket(unix.ETH_P_IP)
	mac := from.vnic.MAC()
	return func() (n int) {
		b := make([]byte, 2048)
		for {
			size, err := unix.Read(fd, b)
			if err != nil {
				return n // there is none at present
			}
			if size > 14 && [6]byte(b[6:12]) == mac {
				n++
			}
		}
	}
}
