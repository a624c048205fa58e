package guard

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/internal/segment"
	"github.com/hvswitch/hvswitch/ports"
)

// attacker makes frames of bytes that it reads as decisions, so that a fuzzer can steer it.
type attacker struct{ decisions []byte }

func (a *attacker) pick(n int) int {
	if len(a.decisions) == 0 {
		return 0
	}
	d := int(a.decisions[0])
	a.decisions = a.decisions[1:]
	return d % n
}

func (a *attacker) oneOf(n int) bool { return a.pick(n) == 1 }

func choose[T any](a *attacker, of ...T) T { return of[a.pick(len(of))] }

// message returns the number of a protocol and a datagram of it.
func (a *attacker) message(v6 bool) (byte, []byte) {
	if !v6 {
		switch a.pick(8) {
		case 0:
			return 17, udp(choose(a, 67, 4000), 68, reply[:40])
		case 1:
			return 17, udp(choose(a, 67, 4000), 67, reply[:40])
		case 2:
			return 17, udp(choose(a, 67, 68), 67, choose(a, request[:40], cat(request[:1], bytes.Repeat([]byte{2}, 39))))
		case 3:
			return 17, udp(1000, 2000, reply[:40])
		case 4:
			return 1, icmp(choose[byte](a, 5, 9), make([]byte, 36))
		case 5:
			return 1, icmp(8, make([]byte, 36))
		case 6:
			return choose[byte](a, 6, 47, 132), cat(be(67, 68), make([]byte, 8), be(0x5000), make([]byte, 30))
		}
		return 2, []byte{0x22, 0, 0, 0, 0, 0, 0, 0}
	}
	switch a.pick(20) {
	case 0:
		return 17, udp(choose(a, 547, 4000), 546, cat(dhcpv6(2), big[:32]))
	case 1:
		return 17, udp(547, 547, cat(dhcpv6(choose[byte](a, 13, 12, 2)), big[:32]))
	case 2:
		return 17, udp(choose(a, 1000, 0x1100, 0x8600), choose(a, 2000, 547), cat(be(547, 546, 40, 0), dhcpv6(2), big[:32]))
	case 3:
		return choose[byte](a, 6, 132, 47, 59, 50), cat(be(547, choose(a, 546, 547), 40, 0), dhcpv6(13), be(0x5000), make([]byte, 28))
	case 4, 5:
		return 58, choose(a, advertisement(lla(1, guestMAC)), icmp(137, make([]byte, 36)))
	case 6:
		return 58, icmp(128, make([]byte, 36))
	case 7:
		return 58, solicit(choose(a, guest6, other6), lla(1, choose(a, guestMAC, otherMAC)))
	case 8:
		return 58, advertise(choose(a, guest6, other6), lla(2, choose(a, guestMAC, otherMAC)))
	case 9:
		return 6, tcp()
	case 10:
		return 60, cat(option(17, 1+a.pick(2)), udp(547, 546, cat(dhcpv6(2), big[:16])))
	case 11:
		return 60, cat(option(58, 1+a.pick(2)), advertisement(lla(1, guestMAC)))
	case 12:
		return choose[byte](a, 140, 253, 44, 0), cat(option(58, 1), advertisement(lla(1, guestMAC)))
	case 13:
		return 60, cat(option(6, 1), tcp())
	case 14:
		return 58, icmp(133, make([]byte, 4), lla(1, choose(a, guestMAC, otherMAC)))
	case 15:
		return 58, advertise(guest6, lla(2, guestMAC), lla(2, otherMAC))
	case 16:
		return 58, advertise(guest6, cat([]byte{14, 24}, make([]byte, 190)), lla(2, otherMAC))
	case 17:
		return 17, udp(1000, 0x9922, big[:40])
	case 18:
		return 59, be(1000, 0x0200)[:3]
	case 19:
		return 47, make([]byte, 40)
	}
	return 17, udp(1000, 2000, big[:40])
}

// cut takes a part of a datagram: mostly at its front, where it matters.
func (a *attacker) cut(b []byte) (part []byte, offset int, more bool) {
	offset = min(choose(a, 0, 0, 0, 8, 8, 16, 24, 32), len(b))
	end := offset + choose(a, 8, 16, 24, 32, 9, 12, 15, 4, 3, 0)
	if a.oneOf(2) {
		end = len(b)
	}
	return b[offset:max(min(end, len(b)), offset)], offset &^ 7, !a.oneOf(3)
}

func (a *attacker) mutate(b []byte, within int) {
	for range choose(a, 0, 0, 0, 1, 2) {
		if n := min(within, len(b)); n > 0 {
			b[a.pick(n)] = choose[byte](a, 0, 1, 2, 4, 17, 44, 58, 60, 67, 68, 0x22, 0x23, 134, 137, 255, 8)
		}
	}
}

func (a *attacker) packet4() []byte {
	proto, b := a.message(false)
	a.mutate(b, 24)
	h := v4{proto: proto, src: choose(a, guest4, guest4, guest4, other4, zero4), dst: choose(a, all4, all4, []byte{224, 0, 0, 22}),
		options: make([]byte, 4*choose(a, 0, 0, 0, 1, 10))}
	if !a.oneOf(3) {
		b, h.offset, h.more = a.cut(b)
	}
	return h.packet(b)
}

func (a *attacker) packet6() []byte {
	next, b := a.message(true)
	a.mutate(b, 32)
	if !a.oneOf(3) {
		part, offset, more := a.cut(b)
		if a.oneOf(4) {
			next = choose[byte](a, 17, 58, 60, 6, 59, 132)
		}
		next, b = 44, cat(frag6(next, offset, more), part)
	}
	for range choose(a, 0, 0, 0, 1, 2) {
		switch k := choose[byte](a, 0, 43, 60, 51, 44); k {
		case 51:
			next, b = k, cat([]byte{next, 4}, make([]byte, 22), b)
		case 44:
			next, b = k, cat(frag6(next, 0, false), b)
		default:
			next, b = k, cat(option(next, choose(a, 1, 1, 2, 23)), b)
		}
	}
	p := v6{src: choose(a, guestLL, guestLL, guest6, otherLL, zero6), dst: choose(a, allNodes, allNodes, solicitGuest), next: next}.packet(b)
	if a.oneOf(16) {
		p[4], p[5] = 0, 0
	}
	return p
}

// story returns frames with parts of two datagrams, as parts of one.
func (a *attacker) story() (frames []*ports.Frame) {
	six := a.pick(4) != 0
	var protos [2]byte
	var messages [2][]byte
	for i := range messages {
		protos[i], messages[i] = a.message(six)
		a.mutate(messages[i], choose(a, 0, 24))
	}
	for range 2 + a.pick(3) {
		i := a.pick(2)
		part, offset, more := a.cut(messages[i])
		var b []byte
		if six {
			b = eth6(v6{next: 44}.packet(frag6(protos[i], offset, more), part))
		} else {
			b = eth4(v4{dst: all4, proto: protos[0], offset: offset, more: more}.packet(part))
		}
		frames = append(frames, a.lend(b))
	}
	return frames
}

// frame returns a frame, which may be cut off, too long or changed, with an offload request.
func (a *attacker) frame() *ports.Frame {
	var t int
	var b []byte
	switch a.pick(9) {
	case 0:
		t, b = 0x0806, arpPacket(choose(a, 1, 1, 6), choose(a, 1, 2), choose(a, guestMAC, otherMAC), choose(a, guest4, other4, zero4), choose(a, guest4, other4))
	case 1, 2, 3:
		t, b = 0x0800, a.packet4()
	default:
		t, b = 0x86dd, a.packet6()
	}
	a.mutate(b, 48)
	for range choose(a, 0, 0, 0, 0, 1, 2, 3) {
		switch a.pick(5) {
		case 0, 1:
			b, t = cat(be(choose(a, 0, 7), t), b), choose(a, 0x8100, 0x88a8)
		case 2:
			b, t = llcSNAP(choose[byte](a, 0, 0xf8), t, b), choose(a, 0, 500, 0x5ff, 0x8870)
		case 3:
			b, t = cat([]byte{0, 0, 0}, be(t), b), 0x88b7
		case 4:
			b, t = cat([]byte{6, 6, 3}, b), 60
		}
	}
	b = eth([]int{t}, b)
	switch a.pick(16) {
	case 1:
		b = b[:len(b)-a.pick(min(len(b), 60))]
	case 2:
		b = cat(b, make([]byte, a.pick(60)))
	}
	return a.lend(b)
}

// lend makes a frame of b, which may have an offload request.
func (a *attacker) lend(b []byte) *ports.Frame {
	f := frameOf(b, 256)
	h := parse(f)
	switch a.pick(24) {
	case 1:
		f.Offload = ports.Offload{NeedsChecksum: true, ChecksumStart: uint16(14 + a.pick(80)), ChecksumOffset: uint16(a.pick(18))}
	case 2:
		f.Offload = ports.Offload{NeedsChecksum: true, ChecksumStart: h.L4, ChecksumOffset: 6, Segment: ports.SegmentUDP,
			SegmentSize: uint16(1 + a.pick(48))}
	case 3, 4:
		f.Offload = ports.Offload{NeedsChecksum: true, ChecksumStart: choose(a, h.Payload, h.L4), ChecksumOffset: choose[uint16](a, 0, 2)}
		forge(f, choose[uint16](a, 0x0200, 0x0d00, 546, 0xaaaa))
	}
	return f
}

// forge changes the end of a frame such that the checksum which is left to be done becomes want.
func forge(f *ports.Frame, want uint16) {
	start, head := int(f.Offload.ChecksumStart), f.Head()
	at := start + int(f.Offload.ChecksumOffset)
	if segment.Check(f) != nil || at+8 > len(head) {
		return
	}
	word := head[len(head)-2-(len(head)-start)%2:][:2]
	word[0], word[1] = 0, 0
	var done ports.Frame
	if segment.Complete(&done, f) == nil {
		sum := int(binary.BigEndian.Uint16(done.Head()[at:])) + int(^want)
		binary.BigEndian.PutUint16(word, uint16(sum+sum>>16))
	}
}

// attack sends frames through p, or through nothing, and returns what receivers with the policies believe.
func attack(t testing.TB, p *Program, all []policy, frames []*ports.Frame) (believed []string, passed int) {
	var s segment.Segmenter
	rs := make([]receiver, len(all))
	for i := range rs {
		rs[i] = receiver{policy: all[i], queues: make(map[string]*queue)}
	}
	var log []string
	for _, f := range frames {
		f.PopTag()
		h := parse(f)
		if segment.CheckParsed(f, h) != nil {
			continue
		}
		if p != nil {
			if p.Check(f, h) != Pass {
				continue
			}
			passed++
		}
		out, err := s.Append(nil, f, 0)
		if err != nil {
			s.Reset()
			continue
		}
		for _, g := range out {
			wire := make([]byte, g.WireLen())
			g.CopyTo(wire)
			log = append(log, fmt.Sprintf("%x", wire))
			for i := range rs {
				rs[i].receive(wire)
			}
		}
		s.Reset()
	}
	for i := range rs {
		for _, b := range rs[i].believed {
			believed = append(believed, fmt.Sprintf("%+v: %s", rs[i].policy, b))
		}
	}
	if p != nil && len(believed) > 0 {
		t.Fatalf("%s\nafter\n%s", strings.Join(believed, "\n"), strings.Join(log, "\n"))
	}
	return believed, passed
}

func randomBytes(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// Whatever a guest sends, what passes makes no receiver believe what is forbidden.
func TestGuardsHold(t *testing.T) {
	p := compile(t, allOn)
	r := rand.New(rand.NewPCG(8, 9))
	all := policies()
	passed := 0
	for start := time.Now(); time.Since(start) < 3*time.Second; {
		a := attacker{randomBytes(r, 400)}
		frames, of := a.story(), all
		if r.IntN(3) == 0 {
			for i := range frames {
				frames[i] = a.frame()
			}
			of = all[r.IntN(len(all)):][:1]
		}
		_, n := attack(t, p, of, frames)
		passed += n
	}
	t.Log(passed, "frames passed")
	require.Greater(t, passed, 1000)
}

// The attacks work, each kind of them, where there is no guard.
func TestAttacksWork(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 10))
	all := policies()
	kinds := make(map[string]int)
	for range 6000 {
		a := attacker{randomBytes(r, 400)}
		var frames []*ports.Frame
		for range 4 {
			frames = append(frames, a.frame())
		}
		believed, _ := attack(t, nil, all[r.IntN(len(all)):][:1], frames)
		for _, b := range believed {
			_, what, _ := strings.Cut(b, ": ")
			kinds[strings.Join(strings.Fields(what)[:min(4, len(strings.Fields(what)))], " ")]++
		}
	}
	for _, k := range []string{"DHCPv4 to a raw", "DHCPv4 to port 67", "DHCPv4 to port 68", "DHCPv6 to port 546", "DHCPv6 to port 547",
		"ICMPv4 type 5", "ICMPv4 type 9", "ICMPv6 type 134", "ICMPv6 type 137", "ND: claim of fd000000000000000000000000000009"} {
		require.Greater(t, kinds[k], 20, "%s: %v", k, kinds)
	}
}

func FuzzGuardsHold(f *testing.F) {
	f.Add([]byte{})
	r := rand.New(rand.NewPCG(8, 11))
	for range 20 {
		f.Add(randomBytes(r, 200))
	}
	all := policies()
	f.Fuzz(func(t *testing.T, d []byte) {
		if len(d) > 1000 {
			return
		}
		p := compile(t, allOn)
		a := attacker{d}
		frames := a.story()
		for len(a.decisions) > 0 && len(frames) < 8 {
			frames = append(frames, a.frame())
		}
		attack(t, p, all, frames)
	})
}

// Bytes that no attacker has shaped make no guard panic, and the verdict on them does not depend on where
// the head ends.
func FuzzCheck(f *testing.F) {
	f.Add(udp4(67, 68, reply))
	f.Add(eth6(v6{next: 0}.packet(option(44, 1), frag6(60, 0, true), option(58, 2), advertisement())))
	f.Add(eth([]int{0}, llcSNAP(0, 0x8100, big)))
	f.Add(arp(1, guestMAC, zero4, guest4))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) == 0 || len(b) > 2000 {
			return
		}
		for i := range 16 {
			c := Config{DHCP: i&1 != 0, Router: i&2 != 0, Source: i&4 != 0, Inspect: i&8 != 0, MAC: guestMAC, Addresses: assigned}
			if i&1 != 0 {
				c.MAC = ports.MAC{}
			}
			if p := compile(t, c); p != nil {
				check(t, p, b)
			}
		}
		l := newLimit(t, LimitConfig{Max: 1})
		admit(l, b, 0)
	})
}
