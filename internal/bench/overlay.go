package main

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/hvswitch/hvswitch/overlay"
	"github.com/hvswitch/hvswitch/ports"
)

// Overlay rows: what it takes to put outer headers in front of a frame and to take them away.

func overlayBenches() (all []*bench) {
	for _, size := range []int{64, 1450, overlayLongest} {
		name := fmt.Sprintf("overlay/nvgre/%dB", size)
		if size == overlayLongest {
			name = "overlay/nvgre/65535B"
		}
		all = append(all, policyBench(name, func(s *scene, c *contest) error { return s.overlay(c, size) }))
	}
	return append(all, policyBench("overlay/nvgre/65535B/cut", (*scene).overlayCut))
}

// overlayLongest is the longest inner frame whose outer IP packet is not longer than 65,535 bytes.
var overlayLongest = 65535 + ethLen - overlay.NVGRE.Overhead(senderIP)

// tunnel leads from one provider address to another.
func tunnel() (*overlay.Tunnel, error) {
	return overlay.NewTunnel(&overlay.TunnelConfig{
		Src: netip.AddrFrom4([4]byte{192, 0, 2, 1}), Dst: netip.AddrFrom4([4]byte{192, 0, 2, 2}), SrcMAC: addr(3000), DstMAC: addr(3001),
	})
}

const overlayVSID = 5001

// overlay encapsulates frames of a size and takes the outer headers away again. The limit is the
// forwarding of such a frame by a switch without an overlay.
func (s *scene) overlay(c *contest, size int) error {
	l := load{size: size, batch: burst, ports: 2, addresses: 2, cores: 1}
	t, err := tunnel()
	if err != nil {
		return err
	}
	var d overlay.Decoder
	var e overlay.Encapsulated
	g := newGuest("frames", l, &l.talkers()[0], nil)
	c.ours = perFrame("hvswitch", 1, func(n int) (int, time.Duration, error) {
		rounds := max(1, n/len(g.rx.frames))
		start := time.Now()
		for range rounds {
			for i := range g.rx.frames {
				f := &g.rx.frames[i]
				if err := t.Encap(f, overlayVSID); err != nil {
					return 0, 0, err
				}
				if why := d.Decap(f, &e); why != 0 || e.VSID != overlayVSID {
					return 0, 0, fmt.Errorf("decapsulation: %v", why)
				}
			}
		}
		return rounds * len(g.rx.frames), time.Since(start), nil
	})
	c.limit, err = s.forwarding(l)
	return err
}

// overlayCut encapsulates a large segment in frames of 1,500 bytes, whose checksums are left to the
// device, and takes the outer headers of all of them away again.
func (s *scene) overlayCut(c *contest) error {
	l := load{size: 65535, batch: burst, ports: 2, addresses: 2, cores: 1}
	t, err := tunnel()
	if err != nil {
		return err
	}
	var d overlay.Decoder
	var e overlay.Encapsulated
	var split overlay.Splitter
	var out []*ports.Frame
	g := newGuest("frames", l, &l.talkers()[0], nil)
	pieces := 0
	c.ours = perFrame("hvswitch", 1, func(n int) (int, time.Duration, error) {
		rounds := max(1, n/len(g.rx.frames))
		start := time.Now()
		for range rounds {
			for i := range g.rx.frames {
				var err error
				if out, err = split.Append(out[:0], &g.rx.frames[i], t, overlayVSID, ports.OffloadChecksum, 1500); err != nil {
					return 0, 0, err
				}
				for _, f := range out {
					if why := d.Decap(f, &e); why != 0 || e.VSID != overlayVSID {
						return 0, 0, fmt.Errorf("decapsulation: %v", why)
					}
				}
				pieces = len(out)
				split.Reset()
			}
		}
		return rounds * len(g.rx.frames), time.Since(start), nil
	})
	c.note = func() string { return fmt.Sprintf("%d outer frames", pieces) }
	c.limit, err = s.forwarding(l)
	return err
}

// forwarding is our switch without anything.
func (s *scene) forwarding(l load) (*contestant, error) {
	c, err := s.ours(l)
	if err == nil {
		c.name = "bare forwarding"
	}
	return c, err
}
