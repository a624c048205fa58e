package portstest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/hvswitch/hvswitch/ports"
)

// Interface makes a Peer of a Linux network interface, such as the kernel's end of a TAP or the other
// end of a veth pair, and waits until it is running. It uses a packet socket, which needs CAP_NET_RAW;
// without, the test is skipped. Offload requests pass in both directions.
func Interface(t testing.TB, name string) Peer {
	t.Helper()
	p, err := openInterface(name)
	if errors.Is(err, os.ErrPermission) {
		t.Skipf("needs the right to open packet sockets (CAP_NET_RAW): %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(p.fd) })
	return p
}

// device is a packet socket bound to one interface.
type device struct {
	fd      int
	in, out []byte // Take's and Put's
	control []byte
}

func openInterface(name string) (*device, error) {
	ifi, err := running(name)
	if err != nil {
		return nil, err
	}
	// Protocol 0 receives nothing until bind, so no frame of another interface gets in.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("packet socket: %w", err)
	}
	all := uint16(unix.ETH_P_ALL)
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_AUXDATA, 1),
		unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1),
		unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1),
		enlargeBuffers(fd),
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all<<8 | all>>8, Ifindex: ifi.Index}),
	)
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("packet socket on %q: %w", name, err)
	}
	return &device{
		fd:      fd,
		in:      make([]byte, vnetHdrLen+ports.MaxFrame+8),
		out:     make([]byte, vnetHdrLen+ports.MaxFrame+8),
		control: make([]byte, 256),
	}, nil
}

// running waits for an interface to run: one that has just come up silently loses what is sent.
func running(name string) (*net.Interface, error) {
	for end := time.Now().Add(patience); ; runtime.Gosched() {
		ifi, err := net.InterfaceByName(name)
		if err != nil {
			return nil, fmt.Errorf("interface %q: %w", name, err)
		}
		if ifi.Flags&net.FlagRunning != 0 {
			return ifi, nil
		}
		if time.Now().After(end) {
			return nil, fmt.Errorf("interface %q is not running: %v", name, ifi.Flags)
		}
	}
}

// enlargeBuffers makes room for what arrives while the suite takes nothing; the kernel counts small
// frames as much as whole pages.
func enlargeBuffers(fd int) error {
	const size = 128 << 20
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, size) == nil &&
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, size) == nil {
		return nil
	}
	return errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, size),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, size),
	)
}

func (p *device) Put(k Packet) error {
	putVnetHdr(p.out, k.Offload)
	n := copy(p.out[vnetHdrLen:], k.Bytes)
	for end := time.Now().Add(patience); ; runtime.Gosched() {
		_, err := unix.Write(p.fd, p.out[:vnetHdrLen+n])
		full := err == unix.ENOBUFS || err == unix.EAGAIN || err == unix.EINTR
		if !full || time.Now().After(end) {
			return err
		}
	}
}

func (p *device) Take(wait time.Duration) (Packet, bool) {
	for end := time.Now().Add(wait); ; {
		n, oobn, _, _, err := unix.Recvmsg(p.fd, p.in[4:], p.control, 0)
		switch {
		case err == nil && n >= vnetHdrLen:
			return p.packet(n, p.control[:oobn]), true
		case err == nil || err == unix.EINTR || err == unix.ENETDOWN: // which is reported once
		case err != unix.EAGAIN || !readable(time.Until(end), p.fd):
			return Packet{}, false
		}
	}
}

// packet makes a Packet of the n bytes at p.in[4:] and puts the tag back that the kernel took out.
func (p *device) packet(n int, control []byte) Packet {
	k := Packet{
		Bytes:   p.in[4+vnetHdrLen : 4+n],
		Offload: vnetHdr(p.in[4:]),
	}
	tag, tagged := auxTag(control)
	if !tagged || len(k.Bytes) < 12 {
		return k
	}
	k.Bytes = p.in[vnetHdrLen : 4+n]
	copy(k.Bytes, k.Bytes[4:16])
	binary.BigEndian.PutUint16(k.Bytes[12:], tag.TPID)
	binary.BigEndian.PutUint16(k.Bytes[14:], tag.TCI)
	if k.Offload.NeedsChecksum {
		k.Offload.ChecksumStart += 4
	}
	return k
}

// auxTag finds the VLAN tag in a control message of type PACKET_AUXDATA, packet(7).
func auxTag(control []byte) (ports.Tag, bool) {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return ports.Tag{}, false
	}
	for _, m := range messages {
		if m.Header.Level != unix.SOL_PACKET || m.Header.Type != unix.PACKET_AUXDATA ||
			len(m.Data) < int(unsafe.Sizeof(unix.TpacketAuxdata{})) {
			continue
		}
		aux := (*unix.TpacketAuxdata)(unsafe.Pointer(&m.Data[0]))
		if aux.Status&unix.TP_STATUS_VLAN_VALID == 0 {
			continue
		}
		tag := ports.Tag{TPID: ports.TPID8021Q, TCI: aux.Vlan_tci}
		if aux.Status&unix.TP_STATUS_VLAN_TPID_VALID != 0 {
			tag.TPID = aux.Vlan_tpid
		}
		return tag, true
	}
	return ports.Tag{}, false
}

// The virtio-net header of OASIS virtio 1.2, 5.1.6, in the byte order of the machine as
// PACKET_VNET_HDR has it.
const (
	vnetHdrLen = 10

	vnetNeedsChecksum = 1
	vnetGSOTCP4       = 1
	vnetGSOTCP6       = 4
	vnetGSOUDP        = 5
	vnetGSOECN        = 0x80
)

func putVnetHdr(b []byte, o ports.Offload) {
	clear(b[:vnetHdrLen])
	if o.NeedsChecksum {
		b[0] = vnetNeedsChecksum
		binary.NativeEndian.PutUint16(b[6:], o.ChecksumStart)
		binary.NativeEndian.PutUint16(b[8:], o.ChecksumOffset)
	}
	switch o.Segment {
	case ports.SegmentNone:
		return
	case ports.SegmentTCP4:
		b[1] = vnetGSOTCP4
	case ports.SegmentTCP6:
		b[1] = vnetGSOTCP6
	case ports.SegmentUDP:
		b[1] = vnetGSOUDP
	}
	if o.ECN {
		b[1] |= vnetGSOECN
	}
	binary.NativeEndian.PutUint16(b[2:], o.HeaderLen)
	binary.NativeEndian.PutUint16(b[4:], o.SegmentSize)
}

func vnetHdr(b []byte) ports.Offload {
	var o ports.Offload
	if b[0]&vnetNeedsChecksum != 0 {
		o.NeedsChecksum = true
		o.ChecksumStart = binary.NativeEndian.Uint16(b[6:])
		o.ChecksumOffset = binary.NativeEndian.Uint16(b[8:])
	}
	switch b[1] &^ vnetGSOECN {
	case vnetGSOTCP4:
		o.Segment = ports.SegmentTCP4
	case vnetGSOTCP6:
		o.Segment = ports.SegmentTCP6
	case vnetGSOUDP:
		o.Segment = ports.SegmentUDP
	default:
		return o
	}
	o.ECN = b[1]&vnetGSOECN != 0
	o.HeaderLen = binary.NativeEndian.Uint16(b[2:])
	o.SegmentSize = binary.NativeEndian.Uint16(b[4:])
	return o
}
