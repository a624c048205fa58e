package guest

import (
	"errors"
	"fmt"
	"sync"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/qdisc/fifo"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/hvswitch/hvswitch/ports"
)

// link is the driver of the guest's card: it moves batches of frames between the stack and a
// ports.Backend.
type link struct {
	nic  ports.Backend
	mac  ports.MAC
	info ports.Info
	up   stack.NetworkDispatcher

	stopOnce sync.Once
	stopped  chan struct{}
	rx       sync.WaitGroup

	// What is sent, by the one goroutine of the queueing discipline.
	tx     ports.TxQueue
	room   chan struct{}
	frames []ports.Frame
	heads  [][ports.Headroom + ports.HeadLen]byte
}

var (
	_ stack.LinkEndpoint = &link{}
	_ stack.GSOEndpoint  = &link{}
)

func newLink(nic ports.Backend, mac ports.MAC) (*link, error) {
	l := &link{
		nic: nic, mac: mac, info: nic.Info(),
		stopped: make(chan struct{}),
		tx:      nic.Tx(0),
		frames:  make([]ports.Frame, fifo.BatchSize),
		heads:   make([][ports.Headroom + ports.HeadLen]byte, fifo.BatchSize),
	}
	for i := range l.info.RxQueues {
		if _, ok := nic.Rx(i).(ports.Notifier); !ok {
			return nil, fmt.Errorf("card %q: receive queue %d does not implement ports.Notifier", l.info.Name, i)
		}
	}
	if n, ok := l.tx.(ports.Notifier); ok {
		l.room = make(chan struct{}, 1)
		n.SetBell(wake(l.room))
	}
	return l, nil
}

// wake returns a bell that leaves one token in c.
func wake(c chan struct{}) func() {
	return func() {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// start begins to receive.
func (l *link) start() {
	for i := range l.info.RxQueues {
		l.rx.Go(func() { l.receive(l.nic.Rx(i)) })
	}
}

// stop ends receiving, and lets nobody wait for room any more.
func (l *link) stop() {
	l.stopOnce.Do(func() { close(l.stopped) })
	l.rx.Wait()
}

func (l *link) receive(q ports.RxQueue) {
	arrived := make(chan struct{}, 1)
	bell := q.(ports.Notifier)
	bell.SetBell(wake(arrived))
	defer bell.SetBell(nil)

	b := ports.NewBatch(64)
	for {
		err := q.Recv(b)
		for _, f := range b.Frames() {
			l.deliver(f)
		}
		idle := b.Len() == 0
		b.Reset()
		q.Release()
		switch {
		case err != nil:
			return
		case idle && !bell.Arm():
			select {
			case <-arrived:
			case <-l.stopped:
				return
			}
		}
		select {
		case <-l.stopped:
			return
		default:
		}
	}
}

// deliver hands a copy of the frame to the stack, if it is for this station.
func (l *link) deliver(f *ports.Frame) {
	if f.Len() < header.EthernetMinimumSize {
		return
	}
	if to := ports.MAC(f.Head()); !to.IsGroup() && to != l.mac {
		return
	}
	v := buffer.NewViewSize(f.WireLen())
	f.CopyTo(v.AsSlice())
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithView(v)})
	defer pkt.DecRef()
	if !l.ParseHeader(pkt) {
		return
	}
	eth := header.Ethernet(pkt.LinkHeader().Slice())
	pkt.PktType = tcpip.PacketHost
	switch to := ports.MAC(eth); {
	case to == ports.Broadcast:
		pkt.PktType = tcpip.PacketBroadcast
	case to.IsGroup():
		pkt.PktType = tcpip.PacketMulticast
	}
	l.up.DeliverNetworkPacket(eth.Type(), pkt)
}

// WritePackets implements stack.LinkWriter. It waits while the card has no room.
func (l *link) WritePackets(list stack.PacketBufferList) (int, tcpip.Error) {
	pkts := list.AsSlice()
	for sent := 0; sent < len(pkts); {
		batch := make([]*ports.Frame, 0, fifo.BatchSize)
		for _, p := range pkts[sent:min(len(pkts), sent+fifo.BatchSize)] {
			batch = append(batch, l.frame(len(batch), p))
		}
		if !l.send(batch) {
			return sent, &tcpip.ErrClosedForSend{}
		}
		sent += len(batch)
	}
	return len(pkts), nil
}

// frame makes the i-th frame of a batch of a packet: the head is copied, the rest is lent.
func (l *link) frame(i int, p *stack.PacketBuffer) *ports.Frame {
	f := &l.frames[i]
	f.SetHead(l.heads[i][:], ports.Headroom, min(p.Size(), ports.HeadLen))
	head := f.Head()
	for _, s := range p.AsSlices() {
		n := copy(head, s)
		head = head[n:]
		f.AppendBody(s[n:])
	}
	if g := p.GSOOptions; g.NeedsCsum {
		f.Offload = ports.Offload{
			NeedsChecksum:  true,
			ChecksumStart:  header.EthernetMinimumSize + g.L3HdrLen,
			ChecksumOffset: g.CsumOffset,
		}
		if p.Data().Size() > int(g.MSS) {
			f.Offload.Segment = ports.SegmentTCP4
			if g.Type == stack.GSOTCPv6 {
				f.Offload.Segment = ports.SegmentTCP6
			}
			f.Offload.SegmentSize = g.MSS
			f.Offload.HeaderLen = uint16(p.HeaderSize())
		}
	}
	return f
}

// send reports whether the link still works. Frames that the card refuses or has no room for after
// stop are lost, as on any wire.
func (l *link) send(frames []*ports.Frame) bool {
	for {
		n, err := l.tx.Send(frames)
		frames = frames[n:]
		switch {
		case errors.Is(err, ports.ErrFrameSize) || errors.Is(err, ports.ErrOffload):
			frames = frames[1:]
		case err != nil:
			return false
		case len(frames) == 0 || !l.waitRoom():
			return true
		}
	}
}

func (l *link) waitRoom() bool {
	n, ok := l.tx.(ports.Notifier)
	if !ok {
		return false
	}
	if n.Arm() {
		return true
	}
	select {
	case <-l.room:
		return true
	case <-l.stopped:
		return false
	}
}

// Attach implements stack.LinkEndpoint.
func (l *link) Attach(up stack.NetworkDispatcher) { l.up = up }

// IsAttached implements stack.LinkEndpoint.
func (l *link) IsAttached() bool { return l.up != nil }

// MTU implements stack.LinkEndpoint.
func (l *link) MTU() uint32 { return uint32(l.info.MTU) }

// MaxHeaderLength implements stack.LinkEndpoint.
func (l *link) MaxHeaderLength() uint16 { return header.EthernetMinimumSize }

// LinkAddress implements stack.LinkEndpoint.
func (l *link) LinkAddress() tcpip.LinkAddress { return tcpip.LinkAddress(l.mac[:]) }

// Capabilities implements stack.LinkEndpoint. A card that takes checksum requests also delivers
// frames with the checksum left to be done, so the stack must not check it.
func (l *link) Capabilities() stack.LinkEndpointCapabilities {
	c := stack.CapabilityResolutionRequired
	if l.info.Offloads&ports.OffloadChecksum != 0 {
		c |= stack.CapabilityRXChecksumOffload
	}
	return c
}

// ARPHardwareType implements stack.LinkEndpoint.
func (l *link) ARPHardwareType() header.ARPHardwareType { return header.ARPHardwareEther }

// AddHeader implements stack.LinkEndpoint.
func (l *link) AddHeader(p *stack.PacketBuffer) {
	header.Ethernet(p.LinkHeader().Push(header.EthernetMinimumSize)).Encode(&header.EthernetFields{
		SrcAddr: p.EgressRoute.LocalLinkAddress,
		DstAddr: p.EgressRoute.RemoteLinkAddress,
		Type:    p.NetworkProtocolNumber,
	})
}

// ParseHeader implements stack.LinkEndpoint.
func (l *link) ParseHeader(p *stack.PacketBuffer) bool {
	_, ok := p.LinkHeader().Consume(header.EthernetMinimumSize)
	return ok
}

// SupportedGSO implements stack.GSOEndpoint: where the card takes TCP segmentation requests, a
// segment of up to 64 KiB crosses the switch as one frame.
func (l *link) SupportedGSO() stack.SupportedGSO {
	const need = ports.OffloadChecksum | ports.OffloadTCP4 | ports.OffloadTCP6
	if l.info.Offloads&need == need {
		return stack.HostGSOSupported
	}
	return stack.GSONotSupported
}

// GSOMaxSize implements stack.GSOEndpoint.
func (l *link) GSOMaxSize() uint32 { return ports.MaxFrame - header.EthernetMinimumSize }

// What a card may do and this one does not.
func (l *link) Wait()                            {}
func (l *link) Close()                           {}
func (l *link) SetMTU(uint32)                    {}
func (l *link) SetLinkAddress(tcpip.LinkAddress) {}
func (l *link) SetOnCloseAction(func())          {}
