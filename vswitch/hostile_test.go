package vswitch_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vswitch"
)

// stub is a backend with one queue in each direction that does what the test says.
type stub struct {
	info   ports.Info
	deaf   bool                                     // its receive queue cannot be waited for
	onSend func(frames []*ports.Frame) (int, error) // takes all when nil
	sent   atomic.Int64                             // frames taken
	closes atomic.Int64

	mu      sync.Mutex
	bell    func()
	arrived []*ports.Frame
	failure error // of Recv, once the frames are gone
}

func newStub() *stub {
	return &stub{info: ports.Info{MTU: 1500, RxQueues: 1, TxQueues: 1, Offloads: ports.OffloadAll}}
}

func newDeafStub() *stub {
	s := newStub()
	s.deaf = true
	return s
}

func (s *stub) Info() ports.Info { return s.info }
func (s *stub) Rx(int) ports.RxQueue {
	if s.deaf {
		return struct{ ports.RxQueue }{s}
	}
	return s
}
func (s *stub) Tx(int) ports.TxQueue { return s }
func (s *stub) Close() error         { s.closes.Add(1); return nil }
func (s *stub) Release()             {}

func (s *stub) SetBell(ring func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bell = ring
}

func (s *stub) Arm() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.arrived) > 0 || s.failure != nil
}

func (s *stub) Recv(b *ports.Batch) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.arrived) > 0 && b.Lend(s.arrived[0]) {
		s.arrived = s.arrived[1:]
	}
	return s.failure
}

func (s *stub) Send(frames []*ports.Frame) (int, error) {
	n, err := len(frames), error(nil)
	if s.onSend != nil {
		n, err = s.onSend(frames)
	}
	s.sent.Add(int64(n))
	return n, err
}

// arrive makes frames, and then an error, arrive at the switch.
func (s *stub) arrive(failure error, frames ...*ports.Frame) {
	s.mu.Lock()
	s.arrived, s.failure = append(s.arrived, frames...), failure
	bell := s.bell
	s.mu.Unlock()
	if bell != nil {
		bell()
	}
}

// guestOnStub is a vNIC on a backend of the test's own.
func (l *lab) guestOnStub(name string, b ports.Backend) *station {
	l.t.Helper()
	v, err := l.host.NewVNIC(name, b, &vswitch.VNICConfig{Switch: "lab"})
	require.NoError(l.t, err)
	return &station{lab: l, vnic: v, mac: v.MAC()}
}

func TestMalformedFramesAreDroppedAndCounted(t *testing.T) {
	var jumbo [9015]byte
	for name, c := range map[string]struct {
		frame func(dst, src ports.MAC) []byte
		why   vswitch.DropReason
	}{
		"nothing":               {func(_, _ ports.MAC) []byte { return nil }, vswitch.DropRunt},
		"one byte":              {func(_, _ ports.MAC) []byte { return []byte{1} }, vswitch.DropRunt},
		"addresses only":        {func(d, s ports.MAC) []byte { return append(d[:], s[:]...) }, vswitch.DropRunt},
		"a byte short":          {func(d, s ports.MAC) []byte { return frame(d, s, "")[:13] }, vswitch.DropRunt},
		"one byte too long":     {func(d, s ports.MAC) []byte { return frame(d, s, string(jumbo[:9001])) }, vswitch.DropGiant},
		"much too long":         {func(d, s ports.MAC) []byte { return frame(d, s, string(make([]byte, 65000))) }, vswitch.DropGiant},
		"longer than any frame": {func(d, s ports.MAC) []byte { return frame(d, s, string(make([]byte, 100_000))) }, vswitch.DropGiant},
		"from zero":             {func(d, _ ports.MAC) []byte { return frame(d, ports.MAC{}, "x") }, vswitch.DropInvalidSource},
		"from a group":          {func(d, _ ports.MAC) []byte { return frame(d, ports.Broadcast, "x") }, vswitch.DropInvalidSource},
		"from another":          {func(d, _ ports.MAC) []byte { return frame(d, d, "x") }, vswitch.DropSpoofedSource},
		"to itself":             {func(_, s ports.MAC) []byte { return frame(s, s, "x") }, vswitch.DropSamePort},
		"to a bridge":           {func(_, s ports.MAC) []byte { return frame(ports.MAC{1, 0x80, 0xc2}, s, "x") }, vswitch.DropReserved},
		"with a tag":            {func(d, s ports.MAC) []byte { return tagged(frame(d, s, "x"), tpidQ, 7) }, vswitch.DropTagged},
		"with a reserved tag":   {func(d, s ports.MAC) []byte { return tagged(frame(d, s, "x"), tpidQ, 4095) }, vswitch.DropTagged},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				l, vm := privateLab(t, 2)
				b := newStub()
				b.info.MTU = 9000
				hostile := l.guestOnStub("hostile", b)
				good := newFrame(frame(vm[0].mac, hostile.mac, "good"))
				b.arrive(nil, good, newFrame(c.frame(vm[0].mac, hostile.mac)), newFrame(frame(vm[0].mac, hostile.mac, "good too")))
				l.everyoneGot([]string{"good", "good too"}, vm[0])
				l.nobodyGot(vm[1])
				require.Equal(t, drops{c.why: 1}, hostile.drops())
				require.EqualValues(t, 3, hostile.stats().RxFrames)
				require.EqualValues(t, 0, b.sent.Load())
			})
		})
	}
}

func TestTheShortestFramePasses(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, vm := privateLab(t, 2)
		vm[0].send(vm[1].mac, "")
		l.everyoneGot([]string{""}, vm[1])
	})
}

func TestFramesToTheZeroAddressAreUnknown(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, vm := privateLab(t, 3)
		vm[0].send(ports.MAC{}, "to nobody")
		l.everyoneGot([]string{"to nobody"}, vm[1], vm[2])
	})
}

func TestOffloadRequestsThatDoNotFitTheFrameAreDropped(t *testing.T) {
	for name, o := range map[string]ports.Offload{
		"checksum behind the frame":       {NeedsChecksum: true, ChecksumStart: 2000, ChecksumOffset: 16},
		"checksum field behind the frame": {NeedsChecksum: true, ChecksumStart: 34, ChecksumOffset: 65000},
		"checksum field at the very end":  {NeedsChecksum: true, ChecksumStart: 34, ChecksumOffset: 65},
		"start and offset that overflow":  {NeedsChecksum: true, ChecksumStart: 65535, ChecksumOffset: 65535},
		"segments of no bytes":            {NeedsChecksum: true, ChecksumStart: 34, ChecksumOffset: 16, Segment: ports.SegmentTCP4},
		"segments of the other version":   {NeedsChecksum: true, ChecksumStart: 34, ChecksumOffset: 16, Segment: ports.SegmentTCP6, SegmentSize: 10},
		"segments of another protocol":    {NeedsChecksum: true, ChecksumStart: 34, ChecksumOffset: 6, Segment: ports.SegmentUDP, SegmentSize: 10},
		"segments of an unknown kind":     {NeedsChecksum: true, ChecksumStart: 34, ChecksumOffset: 16, Segment: 200, SegmentSize: 10},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				l := newLab(t)
				l.newSwitch("lab", vswitch.SwitchConfig{})
				b := newStub()
				hostile := l.guestOnStub("hostile", b)
				victim := l.guestOn(ports.PipeConfig{Offloads: ports.OffloadAll}, "victim", vswitch.VNICConfig{Switch: "lab"})
				plain := l.guest("plain", vswitch.VNICConfig{Switch: "lab"})
				for _, dst := range []ports.MAC{victim.mac, plain.mac, ports.Broadcast} {
					f := newFrame(tcp4(dst, hostile.mac, 46))
					f.Offload = o
					b.arrive(nil, f)
				}
				l.nobodyGot(victim, plain)
				require.Equal(t, drops{vswitch.DropBadOffload: 3}, hostile.drops())
			})
		})
	}
}

func TestABackendThatFailsDoesNotHarmTheOthers(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, vm := privateLab(t, 4)
		b := newStub()
		broken := l.guestOnStub("broken", b)
		traffic := l.flow(vm[0], vm[1])
		b.arrive(errors.New("descriptor ring is corrupted"), newFrame(frame(vm[2].mac, broken.mac, "my last words")))
		traffic.goOn(100)
		l.everyoneGot([]string{"my last words"}, quiet(traffic, vm[2]))
		l.requireLogged("level=ERROR", "backend failed", "switch=lab", "port=broken", "descriptor ring is corrupted")

		vm[2].send(broken.mac, "are you well?")
		vm[2].send(ports.Broadcast, "all well?")
		l.everyoneGot([]string{"all well?"}, vm[3])
		require.Equal(t, drops{vswitch.DropLinkDown: 2}, broken.drops())
		require.Zero(t, b.sent.Load())

		// The VMM repairs it and plugs it in again.
		b.arrive(nil)
		broken.reconfigure(func(c *vswitch.VNICConfig) { c.Switch = "" })
		broken.reconfigure(func(c *vswitch.VNICConfig) { c.Switch = "lab" })
		b.arrive(nil, newFrame(frame(vm[2].mac, broken.mac, "well again")))
		l.everyoneGot([]string{"well again"}, vm[2])
		vm[2].send(broken.mac, "good")
		l.settle()
		require.EqualValues(t, 1, b.sent.Load())
		require.NoError(t, broken.vnic.Close())
		require.EqualValues(t, 1, b.closes.Load())
	})
}

// quiet ends a flow, so that the lab can settle, and returns s.
func quiet(f *flow, s *station) *station {
	f.t.Helper()
	f.stop()
	return s
}

func TestSendErrorsCostWhatTheySay(t *testing.T) {
	for name, c := range map[string]struct {
		took  int
		err   error
		sends int // calls of Send for a batch of 8
		drops drops
	}{
		"all taken":         {8, nil, 1, drops{}},
		"no room":           {0, nil, 1, drops{vswitch.DropQueueFull: 8}},
		"room for some":     {5, nil, 1, drops{vswitch.DropQueueFull: 3}},
		"one too long":      {2, ports.ErrFrameSize, 2, drops{vswitch.DropTooBig: 1}},
		"one not supported": {5, fmt.Errorf("tap: %w", ports.ErrOffload), 2, drops{vswitch.DropUnsupportedOffload: 1}},
		"link down":         {3, ports.ErrLinkDown, 1, drops{vswitch.DropLinkDown: 5}},
		"closed":            {0, ports.ErrClosed, 1, drops{vswitch.DropLinkDown: 8}},
		"anything else":     {3, errors.New("bad address"), 2, drops{vswitch.DropBackendError: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				l, vm := privateLab(t, 3)
				b := newStub()
				odd := l.guestOnStub("odd", b)
				sends := 0
				b.onSend = func(frames []*ports.Frame) (int, error) {
					if sends++; sends == 1 {
						return c.took, c.err
					}
					return len(frames), nil
				}
				var batch [][]byte
				var mine []string
				for i := range 8 {
					batch = append(batch, frame(odd.mac, vm[0].mac, "odd"), frame(vm[1].mac, vm[0].mac, fmt.Sprint(i)))
					mine = append(mine, fmt.Sprint(i))
				}
				vm[0].sendRaw(batch...)
				l.everyoneGot(mine, vm[1])
				require.Equal(t, c.drops, odd.drops())
				require.Equal(t, c.sends, sends)
				s := odd.stats()
				require.EqualValues(t, 8, s.TxFrames+s.Dropped())
				require.EqualValues(t, b.sent.Load(), s.TxFrames)
				require.EqualValues(t, 17*s.TxFrames, s.TxBytes)
				require.Empty(t, vm[0].drops())

				vm[0].send(odd.mac, "the next batch is sent as ever")
				l.settle()
				require.EqualValues(t, s.TxFrames+1, odd.stats().TxFrames)
			})
		})
	}
}

func TestASendErrorOfAnUnknownKindIsLogged(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, vm := privateLab(t, 1)
		b := newStub()
		b.onSend = func([]*ports.Frame) (int, error) { return 0, errors.New("no such device") }
		odd := l.guestOnStub("odd", b)
		vm[0].send(odd.mac, "hello")
		l.settle()
		l.requireLogged("port=odd", "no such device")
	})
}

func TestALinkThatFlapsIsFollowed(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, wire, vm := externalLab(t, 4)
		traffic := l.flow(vm[0], vm[1])
		for i := range 50 {
			wire.end.SetLink(i%2 == 1)
			traffic.goOn(20)
		}
		traffic.stop()
		l.requireLogged("link changed", "switch=lab", "port=eth0", "up=false")
		l.requireLogged("link changed", "switch=lab", "port=eth0", "up=true")

		wire.end.SetLink(false)
		require.False(t, wire.nic.Link().Up)
		vm[2].send(ports.Broadcast, "without the world")
		l.everyoneGot([]string{"without the world"}, vm[3])
		require.Equal(t, drops{vswitch.DropLinkDown: 1}, wire.drops())
		wire.end.SetLink(true)
		require.True(t, wire.nic.Link().Up)
		drain(wire)
		vm[2].send(ports.Broadcast, "the world again")
		l.everyoneGot([]string{"the world again"}, wire)
	})
}

// linkStub is a stub whose link comes up while somebody looks at it for the first time.
type linkStub struct {
	*stub
	up      atomic.Bool
	changed atomic.Pointer[func(ports.Link)]
	told    chan struct{}
}

func (s *linkStub) WatchLink(changed func(ports.Link)) {
	if changed != nil {
		s.changed.Store(&changed)
	}
}

func (s *linkStub) Link() ports.Link {
	changed := s.changed.Load()
	if changed == nil {
		return ports.Link{}
	}
	was := ports.Link{Up: s.up.Swap(true)}
	if !was.Up {
		go func() {
			(*changed)(ports.Link{Up: true})
			close(s.told)
		}()
		for range 1000 { // the event is often dealt with before the answer is given
			runtime.Gosched()
		}
	}
	return was
}

func TestALinkThatComesUpWhileItIsLookedAtIsUp(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, vm := privateLab(t, 1)
		b := &linkStub{stub: newStub(), told: make(chan struct{})}
		late := l.guestOnStub("late", b)
		<-b.told
		vm[0].send(late.mac, "hello")
		l.settle()
		require.Empty(t, late.drops())
		require.EqualValues(t, 1, b.sent.Load())
	})
}

func TestABackendOfNonsenseIsRefused(t *testing.T) {
	for name, b := range map[string]*stub{
		"no receive queue":       {info: ports.Info{MTU: 1500, RxQueues: 0, TxQueues: 1}},
		"no transmit queue":      {info: ports.Info{MTU: 1500, RxQueues: 1, TxQueues: 0}},
		"negative queues":        {info: ports.Info{MTU: 1500, RxQueues: -1, TxQueues: -1}},
		"no MTU":                 {info: ports.Info{RxQueues: 1, TxQueues: 1}},
		"a negative MTU":         {info: ports.Info{MTU: -5, RxQueues: 1, TxQueues: 1}},
		"a queue without a bell": newDeafStub(),
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				l, wire, vm := externalLab(t, 2)
				_, err := l.host.NewVNIC("odd", b, &vswitch.VNICConfig{Switch: "lab"})
				require.ErrorContains(t, err, `switch "lab"`)
				require.ErrorContains(t, err, `"odd"`)
				require.Nil(t, l.host.VNIC("odd"))
				require.Zero(t, b.closes.Load(), "what is refused stays the caller's")

				waiting, err := l.host.NewVNIC("waiting", b, &vswitch.VNICConfig{Switch: "later"})
				require.NoError(t, err)
				l.newSwitch("later", vswitch.SwitchConfig{})
				require.False(t, waiting.Connected())
				l.requireLogged("level=ERROR", "vNIC not connected", "vnic=waiting", "switch=later")
				before, mac := waiting.Config(), waiting.MAC()
				require.Error(t, waiting.SetConfig(vswitch.VNICConfig{Switch: "lab", MAC: stranger(1), Notes: "changed"}))
				require.Equal(t, before, waiting.Config())
				require.Equal(t, mac, waiting.MAC())
				require.NoError(t, waiting.Close())
				l.guest("another", vswitch.VNICConfig{MAC: stranger(1)})

				require.Len(t, l.sw().Stats().Ports, 3)
				vm[0].send(ports.Broadcast, "as ever")
				l.everyoneGot([]string{"as ever"}, vm[1], wire)
			})
		})
	}
}

func TestABackendClosedUnderTrafficIsReportedAndHarmsNobody(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, vm := privateLab(t, 5)
		traffic := l.flow(vm[0], vm[1])
		go func() {
			for i := 0; vm[2].end.WriteFrame(t.Context(), frame(vm[3].mac, vm[2].mac, "blah")) == nil; i++ {
				if i%50 == 49 {
					time.Sleep(time.Microsecond)
					drain(vm[3])
				}
			}
		}()
		traffic.goOn(500)
		vm[2].end.Close()
		traffic.goOn(500)
		traffic.stop()
		drain(vm[3])
		l.requireLogged("backend closed", "switch=lab", "port=vm2")
		vm[4].send(vm[2].mac, "gone?")
		l.settle()
		require.Equal(t, drops{vswitch.DropLinkDown: 1}, vm[2].drops())
		require.True(t, vm[2].vnic.Connected())
		require.NoError(t, vm[2].vnic.Close())
	})
}

// FuzzSwitch has a port that may be a guest, one that may spoof, or the uplink, send whatever the
// fuzzer makes of it, in memory as a guest's lies: a head and a body. Beside it a pair of guests goes
// on talking. Every frame is delivered or dropped under exactly one reason, nobody gets a frame that
// their port could not carry, and what one guest may send in a VLAN is nothing.
func FuzzSwitch(f *testing.F) {
	dst, src := fuzzMAC(0), fuzzMAC(4)
	f.Add(byte(0), script(frame(dst, src, "hello"), 0, ports.Offload{}))
	f.Add(byte(1), script(frame(ports.Broadcast, stranger(1), "hello"), 0, ports.Offload{}))
	f.Add(byte(2), script(tagged(frame(dst, stranger(1), "hello"), tpidQ, 5), 0, ports.Offload{}))
	f.Add(byte(0), script(tagged(frame(dst, src, "hello"), tpidQ, 0, tpidQ, 5), 0, ports.Offload{}))
	f.Add(byte(0), script(tagged(frame(dst, src, ""), tpidQ, 5)[:16], 0, ports.Offload{}))
	f.Add(byte(2), script(frame(dst, src, "hello"), 0x8100_0005, ports.Offload{}))
	f.Add(byte(0), script(nil, 0, ports.Offload{}))
	segment := ports.Offload{NeedsChecksum: true, ChecksumStart: 34, ChecksumOffset: 16, Segment: ports.SegmentTCP4, SegmentSize: 1448, HeaderLen: 54}
	for _, to := range []ports.MAC{fuzzMAC(0), fuzzMAC(2), ports.Broadcast} {
		f.Add(byte(0), script(tcp4(to, src, 4000), 0, segment))
		f.Add(byte(2), script(tagged(tcp4(to, stranger(1), 4000), tpidQ, 0), 0, segment))
	}
	f.Fuzz(func(t *testing.T, role byte, input []byte) {
		inBubble(t, func(t *testing.T) { fuzzSwitch(t, role, input) })
	})
}

// fuzzMAC is the address of each port: 0 and 1 the pair, 2 a guest without offloads, 3 what is
// behind the uplink, 4 the hostile one.
func fuzzMAC(i int) ports.MAC { return ports.MAC{0x0e, 0, 0, 0, 0, byte(i)} }

// script encodes one frame for FuzzSwitch.
func script(wire []byte, tag uint32, o ports.Offload) []byte {
	flags := byte(o.Segment) << 1
	if o.NeedsChecksum {
		flags |= 1
	}
	if o.ECN {
		flags |= 0x80
	}
	b := binary.BigEndian.AppendUint16(nil, uint16(len(wire)))
	b = binary.BigEndian.AppendUint32(b, tag)
	b = append(b, flags)
	for _, v := range []uint16{o.SegmentSize, o.HeaderLen, o.ChecksumStart, o.ChecksumOffset} {
		b = binary.BigEndian.AppendUint16(b, v)
	}
	return append(b, wire...)
}

const scriptHead = 15

// unscript makes at most 32 frames of the input. Bytes that are wanting are those of a counter.
func unscript(input []byte) (frames []*ports.Frame) {
	for len(input) >= scriptHead && len(frames) < 32 {
		h := input[:scriptHead]
		wire := make([]byte, binary.BigEndian.Uint16(h))
		for i := range wire {
			wire[i] = byte(i)
		}
		input = input[scriptHead:]
		input = input[copy(wire, input):]
		f := new(ports.Frame)
		n := min(len(wire), ports.HeadLen)
		f.SetHead(append(make([]byte, ports.Headroom), wire[:n]...), ports.Headroom, n)
		for body := range slices.Chunk(wire[n:], 4096) {
			f.AppendBody(body)
		}
		tag := binary.BigEndian.Uint32(h[2:])
		f.VLAN = ports.Tag{TPID: uint16(tag >> 16), TCI: uint16(tag)}
		f.Offload = ports.Offload{
			NeedsChecksum: h[6]&1 != 0, Segment: ports.Segment(h[6] >> 1 & 7), ECN: h[6]&0x80 != 0,
			SegmentSize: binary.BigEndian.Uint16(h[7:]), HeaderLen: binary.BigEndian.Uint16(h[9:]),
			ChecksumStart: binary.BigEndian.Uint16(h[11:]), ChecksumOffset: binary.BigEndian.Uint16(h[13:]),
		}
		frames = append(frames, f)
	}
	return frames
}

func fuzzSwitch(t *testing.T, role byte, input []byte) {
	l := newLab(t)
	able := ports.PipeConfig{Offloads: ports.OffloadAll}
	cfg := func(i int) vswitch.VNICConfig { return vswitch.VNICConfig{Switch: "lab", MAC: fuzzMAC(i)} }
	hostile := newStub()
	var others []*station
	var from func() vswitch.PortStats
	if isUplink := role%3 == 2; isUplink {
		n, err := l.host.AddNIC("hostile", hostile)
		require.NoError(t, err)
		from = n.Stats
		l.newSwitch("lab", vswitch.SwitchConfig{Type: vswitch.External, Uplink: "hostile"})
	} else {
		others = append(others, l.nicOn(able, "eth0"))
		l.newSwitch("lab", vswitch.SwitchConfig{Type: vswitch.External, Uplink: "eth0"})
		c := cfg(4)
		c.AllowSpoofing = role%3 == 1
		v, err := l.host.NewVNIC("hostile", hostile, &c)
		require.NoError(t, err)
		from = v.Stats
	}
	a, b := l.guestOn(able, "a", cfg(0)), l.guestOn(able, "b", cfg(1))
	plain := l.guest("plain", cfg(2))
	others = append(others, a, b, plain)

	// burst sends frames at once and accounts for each.
	burst := func(frames []*ports.Frame) {
		before, flooded := from(), l.sw().Stats().Flooded
		was := map[*station]vswitch.PortStats{}
		for _, o := range others {
			was[o] = o.stats()
		}
		hostile.arrive(nil, frames...)
		a.send(b.mac, goingOn)
		l.settle()

		after := from()
		dropped := int(after.Dropped() - before.Dropped())
		nowhere := int(after.Drops[vswitch.DropNoDestination] - before.Drops[vswitch.DropNoDestination])
		floods := int(l.sw().Stats().Flooded-flooded) - nowhere
		unicast := len(frames) - dropped - floods
		require.EqualValues(t, len(frames), after.RxFrames-before.RxFrames)
		require.GreaterOrEqual(t, unicast, 0)

		elsewhere, atPlain := 0, 0 // unicast frames
		for _, o := range others {
			s := o.stats()
			tx := int(s.TxFrames - was[o].TxFrames)
			reached := tx + int(s.Dropped()-was[o].Dropped()) - floods
			arrived := o.received()
			require.Len(t, arrived, tx, "counted as sent to %s", s.Port)
			heard := false
			for _, f := range arrived {
				if string(f.Head()[14:]) == goingOn && ports.MAC(f.Head()[6:]) == a.mac {
					heard = true
					reached--
				} else {
					checkArrival(t, o, f, role)
				}
			}
			require.Equal(t, o == b, heard, "the pair that talks, at %s", s.Port)
			require.GreaterOrEqual(t, reached, 0, "a flooded frame did not reach %s", s.Port)
			if o == plain {
				atPlain = reached
			} else {
				elsewhere += reached
			}
		}
		// At the guest without offloads one frame may have become many.
		require.LessOrEqual(t, elsewhere, unicast, "a frame went to two ports")
		require.GreaterOrEqual(t, elsewhere+atPlain, unicast, "a frame is lost")
		if len(frames) == 1 && elsewhere+floods == 1 && floods == 0 {
			require.Zero(t, atPlain, "a frame went to two ports")
		}
	}
	for _, f := range unscript(input) {
		burst([]*ports.Frame{f})
	}
	burst(unscript(input))
}

const goingOn = "we go on talking"

// checkArrival says what no port gets, whatever the hostile one sends.
func checkArrival(t *testing.T, at *station, f *ports.Frame, role byte) {
	name := at.end.Info().Name
	if at.vnic != nil {
		require.False(t, f.VLAN.Present(), "%s got a frame of VLAN %d", name, f.VLAN.VID())
	}
	if f.Offload.IsZero() {
		require.LessOrEqual(t, f.Len(), 1514, name)
	} else {
		require.Zero(t, f.Offload.Needs()&^at.end.Info().Offloads, name)
	}
	if role%3 == 2 {
		return
	}
	padded := make([]byte, max(64, f.WireLen()))
	f.CopyTo(padded)
	et := binary.BigEndian.Uint16(padded[12:])
	require.False(t, et == tpidQ || et == tpidAD, "%s got a tagged frame from a guest: %x", name, padded[:64])
	if role%3 == 0 {
		require.Equal(t, fuzzMAC(4), ports.MAC(padded[6:]), "%s got a frame from a spoofed source", name)
	}
}
