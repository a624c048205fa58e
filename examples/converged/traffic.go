package main

import (
	"context"
	"encoding/binary"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/qos"
)

const (
	frameLen = 1514
	flows    = 64 // of each vNIC
	tick     = time.Millisecond

	// late is how much somebody who did not run in time makes up for.
	late = 50 * time.Millisecond
)

// sender sends UDP datagrams as fast as the whole uplink is, while it is told to.
type sender struct {
	class  string
	end    *ports.PipeEnd
	active atomic.Bool
	frames []*ports.Frame // one of each flow
}

func newSender(class string, end *ports.PipeEnd, mac ports.MAC) *sender {
	s := &sender{class: class, end: end}
	for flow := range flows {
		s.frames = append(s.frames, datagram(mac, uint16(1024+flow)))
	}
	return s
}

// datagram is a UDP datagram from a port to somebody on the LAN.
func datagram(src ports.MAC, port uint16) *ports.Frame {
	lan := ports.MAC{2, 0, 0, 0, 1, 1}
	b := make([]byte, ports.Headroom, ports.Headroom+frameLen)
	b = append(append(b, lan[:]...), src[:]...)
	b = append(b, 0x08, 0x00, 0x45, 0)
	b = binary.BigEndian.AppendUint16(b, frameLen-14)
	b = append(b, 0, 0, 0x40, 0, 64, 17, 0, 0, 192, 0, 2, 1, 198, 51, 100, 1)
	b = binary.BigEndian.AppendUint16(b, port)
	b = binary.BigEndian.AppendUint16(b, 9) // discard
	b = binary.BigEndian.AppendUint16(b, frameLen-34)
	f := new(ports.Frame)
	f.SetHead(b[:cap(b)], ports.Headroom, frameLen)
	return f
}

func (s *sender) run(ctx context.Context) {
	const rate = nicCount * nicRate
	t := time.NewTicker(tick)
	defer t.Stop()
	next, sent := 0, time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		now := time.Now()
		if !s.active.Load() {
			sent = now
			continue
		}
		if now.Sub(sent) > late {
			sent = now.Add(-late)
		}
		for sent.Before(now) {
			// What there is no room for is lost: this is more than the uplink takes.
			_, _ = s.end.Tx(0).Send(s.frames[next : next+1])
			next = (next + 1) % len(s.frames)
			sent = sent.Add(takes(s.frames[0], rate))
		}
	}
}

// takes returns for how long a frame occupies a wire of a rate in bit/s.
func takes(f *ports.Frame, rate int) time.Duration {
	return time.Duration(qos.WireBytes(f.WireLen(), 0, 0)) * 8 * time.Second / time.Duration(rate)
}

// wire is a cable as its far end sees it, which takes no more than the cable can carry.
type wire struct {
	name string
	end  *ports.PipeEnd

	mu    sync.Mutex
	bytes map[uint16]uint64 // on the wire, by VLAN
}

func (w *wire) drain(ctx context.Context) {
	rx := w.end.Rx(0)
	rung := make(chan struct{}, 1)
	bell := rx.(ports.Notifier)
	bell.SetBell(func() {
		select {
		case rung <- struct{}{}:
		default:
		}
	})
	defer bell.SetBell(nil)
	b := ports.NewBatch(8)
	free := time.Now() // when the wire is
	for ctx.Err() == nil {
		b.Reset()
		if rx.Recv(b) != nil {
			return
		}
		if b.Len() == 0 {
			if !bell.Arm() {
				select {
				case <-rung:
				case <-ctx.Done():
				}
			}
			continue
		}
		if now := time.Now(); free.Before(now.Add(-late)) {
			free = now.Add(-late)
		}
		for _, f := range b.Frames() {
			free = free.Add(takes(f, nicRate))
		}
		time.Sleep(time.Until(free))
		w.mu.Lock()
		for _, f := range b.Frames() {
			w.bytes[f.VLAN.VID()] += uint64(qos.WireBytes(f.WireLen(), 0, 0))
		}
		w.mu.Unlock()
		b.Reset()
		rx.Release()
	}
}

// carried returns what has been on the wire up to now, by VLAN.
func (w *wire) carried() map[uint16]uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := map[uint16]uint64{}
	for vid, n := range w.bytes {
		c[vid] = n
	}
	return c
}
