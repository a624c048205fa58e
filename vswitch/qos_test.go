package vswitch_test

import (
	"encoding/binary"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/qos"
	"github.com/hvswitch/hvswitch/vswitch"
)

const mbit = 1_000_000

// offer sends frames of n bytes, numbered and stamped, at a rate in bit/s of the wire until it is told to stop, in
// bursts of a millisecond. The guest waits when its queue is full.
func (s *station) offer(dst ports.MAC, n int, rate uint64) (stop func()) {
	s.lab.t.Helper()
	done := make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		wire := frame(dst, s.mac, string(make([]byte, n-14)))
		owed, number := 0, uint64(time.Now().UnixNano())
		for tick := time.NewTicker(time.Millisecond); ; {
			select {
			case <-done:
				return
			case <-tick.C:
			}
			for owed += int(rate / 8 / 1000); owed > 0; owed -= qos.WireBytes(n, 0, 0) {
				binary.BigEndian.PutUint64(wire[14:], number)
				binary.BigEndian.PutUint64(wire[22:], uint64(time.Now().UnixNano()))
				number++
				if s.end.WriteFrame(s.lab.t.Context(), wire) != nil {
					return
				}
			}
		}
	})
	stop = sync.OnceFunc(func() { close(done); all.Wait() })
	s.lab.t.Cleanup(stop)
	return stop
}

// meter counts what arrives at a station, by where it comes from.
type meter struct {
	mu    sync.Mutex
	bytes map[ports.MAC]int // on the wire
	delay map[ports.MAC][]time.Duration
}

// measure reads all frames of a station until the test ends, at a rate in bit/s of the wire, or at once if that is 0.
// The frames of each sender have to be in order, but some may be missing.
func (s *station) measure(rate uint64) *meter {
	m := &meter{bytes: map[ports.MAC]int{}, delay: map[ports.MAC][]time.Duration{}}
	next := map[ports.MAC]uint64{}
	done := make(chan struct{})
	s.lab.t.Cleanup(func() { <-done })
	go func() {
		defer close(done)
		buf := make([]byte, ports.MaxFrame)
		for {
			n, err := s.end.ReadFrame(s.lab.t.Context(), buf)
			if err != nil {
				return
			}
			if rate != 0 {
				time.Sleep(time.Duration(uint64(qos.WireBytes(n, 0, 0)) * 8 * uint64(time.Second) / rate))
			}
			src := ports.MAC(buf[6:12])
			number := binary.BigEndian.Uint64(buf[14:])
			if number < next[src] {
				panic("a frame is late, or comes twice")
			}
			next[src] = number + 1
			m.mu.Lock()
			m.bytes[src] += qos.WireBytes(n, 0, 0)
			m.delay[src] = append(m.delay[src], time.Since(time.Unix(0, int64(binary.BigEndian.Uint64(buf[22:])))))
			m.mu.Unlock()
		}
	}()
	return m
}

// second returns what has come from each station within the next second, in bit/s.
func (m *meter) second(from ...*station) []float64 { return m.period(time.Second, from...) }

func (m *meter) period(d time.Duration, from ...*station) (rates []float64) {
	before := m.read()
	time.Sleep(d)
	after := m.read()
	for _, s := range from {
		rates = append(rates, float64(after[s.mac]-before[s.mac])*8/d.Seconds())
	}
	return rates
}

func (m *meter) read() map[ports.MAC]int {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := map[ports.MAC]int{}
	for k, v := range m.bytes {
		c[k] = v
	}
	return c
}

func TestMaximumBandwidthIsExactAndLosesNothing(t *testing.T) {
	for _, c := range []struct {
		rate    uint64
		length  int
		seconds int
	}{
		{100_000, 60, 5},
		{mbit, 100, 5},
		{64 * mbit, 1514, 5},
		{1000 * mbit, 1514, 2},
		{10_000 * mbit, 9014, 2},
	} {
		inBubble(t, func(t *testing.T) {
			l := newLab(t)
			l.newSwitch("lab", vswitch.SwitchConfig{})
			big := ports.PipeConfig{MTU: 9000}
			vm := l.guestOn(big, "vm", vswitch.VNICConfig{Switch: "lab", Bandwidth: vswitch.Bandwidth{MaxRate: c.rate}})
			free := l.guestOn(big, "free", vswitch.VNICConfig{Switch: "lab"})
			to := l.guestOn(ports.PipeConfig{MTU: 9000, Depth: 4096}, "to", vswitch.VNICConfig{Switch: "lab"})
			m := to.measure(0)
			vm.offer(to.mac, c.length, 2*c.rate)
			free.offer(to.mac, 100, mbit)
			time.Sleep(time.Second)
			for range c.seconds {
				got := m.second(vm, free)
				require.InEpsilon(t, float64(c.rate), got[0], 0.01)
				require.InEpsilon(t, mbit, got[1], 0.01, "the other one is not held up")
			}
			require.Zero(t, vm.vnic.Stats().Dropped())
			require.Zero(t, to.vnic.Stats().Dropped())
			require.NotZero(t, vm.vnic.Stats().Paused)
		})
	}
}

func TestMaximumBandwidthOfLargeSegments(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l := newLab(t)
		l.newSwitch("lab", vswitch.SwitchConfig{})
		able := ports.PipeConfig{Offloads: ports.OffloadAll}
		vm := l.guestOn(able, "vm", vswitch.VNICConfig{Switch: "lab", Bandwidth: vswitch.Bandwidth{MaxRate: 100 * mbit}})
		to := l.guestOn(able, "to", vswitch.VNICConfig{Switch: "lab"})
		f := largeFrames[0].frame(to.mac, vm.mac, 40*1448, 1448)
		size := 40 * (f.Len() - 39*1448 + 24)
		sent := 0
		for b := ports.NewBatch(64); sent < 400; { // 189 Mbit
			n, err := vm.end.Tx(0).Send([]*ports.Frame{f})
			require.NoError(t, err)
			sent += n
			time.Sleep(time.Millisecond)
			b.Reset()
			require.NoError(t, to.end.Rx(0).Recv(b))
			to.end.Rx(0).Release()
		}
		began := time.Now()
		before := to.vnic.Stats().TxFrames
		for b := ports.NewBatch(64); time.Since(began) < time.Second; time.Sleep(time.Millisecond) {
			vm.end.Tx(0).Send([]*ports.Frame{f})
			b.Reset()
			require.NoError(t, to.end.Rx(0).Recv(b))
			to.end.Rx(0).Release()
		}
		require.InEpsilon(t, 100*mbit, float64(to.vnic.Stats().TxFrames-before)*float64(size)*8, 0.01)
	})
}

func TestAChangeOfTheMaximumIsFollowedAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, vm := privateLab(t, 2)
		m := vm[1].measure(0)
		stop := vm[0].offer(vm[1].mac, 1514, 200*mbit)
		for _, rate := range []uint64{100_000, 50 * mbit, 10 * mbit, 0, qos.LowestRate, 20 * mbit} {
			vm[0].reconfigure(func(c *vswitch.VNICConfig) { c.Bandwidth.MaxRate = rate })
			time.Sleep(500 * time.Millisecond)
			got := m.period(4*time.Second, vm[0])[0]
			switch {
			case rate == 0:
				require.InEpsilon(t, 200*mbit, got, 0.01)
			case rate == qos.LowestRate: // less than a frame
				require.Less(t, got, 8000.)
			default:
				require.InEpsilon(t, float64(rate), got, 0.04)
			}
		}
		vm[0].reconfigure(func(c *vswitch.VNICConfig) { c.Bandwidth.MaxRate = 0 })
		stop()
		require.Zero(t, vm[0].stats().Dropped())
		require.NoError(t, vm[0].vnic.Close(), "also while its queue is paused")
		_ = l
	})
}

// dividing is an external switch whose uplink carries 100 Mbit/s, and guests with minimums.
func dividing(t *testing.T, q vswitch.QoSConfig, min ...vswitch.Bandwidth) (l *lab, wire *station, vm []*station) {
	l = newLab(t)
	wire = l.nic("eth0")
	l.newSwitch("lab", vswitch.SwitchConfig{Type: vswitch.External, Uplink: "eth0", QoS: &q})
	for i, b := range min {
		vm = append(vm, l.guest("vm"+string(rune('0'+i)), vswitch.VNICConfig{Switch: "lab", Bandwidth: b}))
	}
	return l, wire, vm
}

func weights(w ...int) (all []vswitch.Bandwidth) {
	for _, n := range w {
		all = append(all, vswitch.Bandwidth{MinWeight: n})
	}
	return all
}

func requireShares(t *testing.T, total float64, parts []float64, got []float64) {
	t.Helper()
	for i, p := range parts {
		require.InDelta(t, total*p/100, got[i], total*0.02, "%d of %v", i, got)
	}
}

func TestWeightsDivideASaturatedUplink(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, wire, vm := dividing(t, vswitch.QoSConfig{LinkRate: 100 * mbit}, weights(20, 50, 30)...)
		m := wire.measure(0)
		var stop []func()
		for _, v := range vm {
			stop = append(stop, v.offer(wire.mac, 1514, 150*mbit))
		}
		time.Sleep(100 * time.Millisecond)
		for range 3 {
			requireShares(t, 100*mbit, []float64{20, 50, 30}, m.second(vm...))
		}
		stop[1]() // its share goes to the others by weight
		time.Sleep(500 * time.Millisecond)
		for range 2 {
			got := m.second(vm...)
			requireShares(t, 100*mbit, []float64{40, 0, 60}, got)
			require.InEpsilon(t, 100*mbit, got[0]+got[2], 0.01)
		}
		stop[1] = vm[1].offer(wire.mac, 60, 150*mbit) // small frames cost what they take of the wire
		time.Sleep(100 * time.Millisecond)
		requireShares(t, 100*mbit, []float64{20, 50, 30}, m.second(vm...))
		vm[0].reconfigure(func(c *vswitch.VNICConfig) { c.Bandwidth.MinWeight = 50 })
		vm[1].reconfigure(func(c *vswitch.VNICConfig) { c.Bandwidth.MinWeight = 20 })
		time.Sleep(100 * time.Millisecond)
		requireShares(t, 100*mbit, []float64{50, 20, 30}, m.second(vm...))
		for _, s := range stop {
			s()
		}
		time.Sleep(time.Second)
		classes := l.sw().Classes()
		var names []string
		for _, c := range classes {
			names = append(names, c.Name)
			require.Zero(t, c.Queued)
		}
		require.Equal(t, []string{"vm0", "vm1", "vm2", "default"}, names)
		require.NotZero(t, classes[0].Dropped)
		require.NotZero(t, classes[0].DelayMax)
		var dropped uint64
		for _, c := range classes {
			dropped += c.Dropped
		}
		require.Equal(t, drops{vswitch.DropQueueFull: dropped}, wire.drops())
	})
}

func TestWhatHasNoMinimumSharesTheRest(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		_, wire, vm := dividing(t, vswitch.QoSConfig{LinkRate: 100 * mbit, Default: vswitch.Bandwidth{MinWeight: 10}}, weights(30, 0, 0)...)
		m := wire.measure(0)
		for _, v := range vm {
			v.offer(wire.mac, 1514, 100*mbit)
		}
		time.Sleep(100 * time.Millisecond)
		got := m.second(vm...)
		require.InDelta(t, 75*mbit, got[0], 2*mbit)
		require.InDelta(t, 25*mbit, got[1]+got[2], 2*mbit)
	})
}

func TestAbsoluteMinimumsBindUnderContentionOnly(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, wire, vm := dividing(t, vswitch.QoSConfig{Mode: qos.Absolute, LinkRate: 100 * mbit},
			vswitch.Bandwidth{MinRate: 60 * mbit}, vswitch.Bandwidth{MinRate: 20 * mbit, MaxRate: 30 * mbit}, vswitch.Bandwidth{})
		m := wire.measure(0)
		stop := vm[0].offer(wire.mac, 1514, 200*mbit)
		vm[1].offer(wire.mac, 1514, 200*mbit)
		time.Sleep(200 * time.Millisecond)
		requireShares(t, 100*mbit, []float64{75, 25}, m.second(vm...))
		vm[2].offer(wire.mac, 1514, 200*mbit)
		time.Sleep(200 * time.Millisecond)
		requireShares(t, 100*mbit, []float64{60, 20, 20}, m.second(vm...))
		stop()
		time.Sleep(2 * time.Second)
		got := m.second(vm...)
		require.InDelta(t, 30*mbit, got[1], 2*mbit, "not above its maximum")
		require.InDelta(t, 70*mbit, got[2], 2*mbit)

		_, err := l.host.NewVNIC("greedy", l.free(), &vswitch.VNICConfig{Switch: "lab", Bandwidth: vswitch.Bandwidth{MinRate: 21 * mbit}})
		require.ErrorContains(t, err, "greedy")
		require.ErrorContains(t, err, "is above LinkRate 100000000")
		require.Nil(t, l.host.VNIC("greedy"))
	})
}

// free returns a backend that is closed when the test ends.
func (l *lab) free() ports.Backend {
	a, _ := l.pipe(ports.PipeConfig{})
	l.t.Cleanup(func() { a.Close() })
	return a
}

func TestAPingPassesASaturatedUplink(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		_, wire, vm := dividing(t, vswitch.QoSConfig{LinkRate: 1000 * mbit}, weights(10, 10, 0)...)
		m := wire.measure(0)
		stop := []func(){vm[1].offer(wire.mac, 1514, 1100*mbit), vm[2].offer(wire.mac, 1514, 500*mbit), vm[0].offer(wire.mac, 98, mbit)}
		time.Sleep(2 * time.Second)
		for _, s := range stop {
			s()
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		d := m.delay[vm[0].mac]
		require.Greater(t, len(d), 1000)
		slices.Sort(d)
		t.Logf("delay p50 %s p99 %s max %s; of the saturating ones p50 %s", d[len(d)/2], d[len(d)*99/100], d[len(d)-1], m.delay[vm[1].mac][len(m.delay[vm[1].mac])/2])
		require.Less(t, d[len(d)*99/100], 2*time.Millisecond)
	})
}

func TestWithoutARateTheBackendSaysWhatTheLinkCarries(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		_, wire, vm := dividing(t, vswitch.QoSConfig{}, weights(20, 50, 30)...)
		m := wire.measure(100 * mbit)
		for _, v := range vm {
			v.offer(wire.mac, 1514, 120*mbit)
		}
		time.Sleep(500 * time.Millisecond)
		got := m.second(vm...)
		requireShares(t, 100*mbit, []float64{20, 50, 30}, got)
		require.InEpsilon(t, 100*mbit, got[0]+got[1]+got[2], 0.01)
	})
}

func TestFramesThatNeedNotWaitAreNotHeldUp(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		_, wire, vm := dividing(t, vswitch.QoSConfig{LinkRate: 1000 * mbit}, weights(20, 50)...)
		vm[0].send(wire.mac, "a")
		require.Equal(t, []string{"a"}, wire.got(), "without any time passing")
		require.Len(t, vm[0].vnic.PassThrough(), 2, "its minimum and QoS keep it from bypassing the switch")
		wire.send(vm[0].mac, "b")
		vm[1].send(vm[0].mac, "c")
		require.Equal(t, []string{"b", "c"}, vm[0].got())
	})
}

func TestQoSComesAndGoesUnderTraffic(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, wire, vm := externalLab(t, 2)
		other := l.nic("eth1")
		m, n := wire.measure(0), other.measure(0)
		for _, v := range vm {
			v.offer(stranger(1), 1514, 80*mbit)
		}
		second := func(m *meter) []float64 { time.Sleep(100 * time.Millisecond); return m.second(vm...) }
		require.InDeltaSlice(t, []float64{80 * mbit, 80 * mbit}, second(m), mbit)
		l.reconfigure(func(c *vswitch.SwitchConfig) { c.QoS = &vswitch.QoSConfig{LinkRate: 100 * mbit} })
		got := second(m)
		require.InEpsilon(t, 100*mbit, got[0]+got[1], 0.01)
		for i, w := range []int{20, 60} {
			vm[i].reconfigure(func(c *vswitch.VNICConfig) { c.Bandwidth.MinWeight = w })
		}
		require.InDeltaSlice(t, []float64{25 * mbit, 75 * mbit}, second(m), 2*mbit)
		l.reconfigure(func(c *vswitch.SwitchConfig) { c.QoS.LinkRate = 40 * mbit })
		require.InDeltaSlice(t, []float64{10 * mbit, 30 * mbit}, second(m), mbit)
		l.reconfigure(func(c *vswitch.SwitchConfig) { c.Uplink = "eth1" })
		require.InDeltaSlice(t, []float64{10 * mbit, 30 * mbit}, second(n), mbit)
		require.Equal(t, []float64{0, 0}, second(m))

		c := l.sw().Config()
		c.QoS = nil
		require.ErrorContains(t, l.sw().SetConfig(c), "QoS is needed for the minimum bandwidth of vNIC")
		c = l.sw().Config()
		c.QoS.Mode = qos.Absolute
		require.ErrorContains(t, l.sw().SetConfig(c), "MinWeight")
		require.InDeltaSlice(t, []float64{10 * mbit, 30 * mbit}, second(n), mbit, "nothing has changed")
		for i := range vm {
			vm[i].reconfigure(func(c *vswitch.VNICConfig) { c.Bandwidth.MinWeight = 0 })
		}
		require.NoError(t, l.sw().SetConfig(c))
		vm[0].reconfigure(func(c *vswitch.VNICConfig) { c.Bandwidth.MinRate = 35 * mbit })
		require.InDeltaSlice(t, []float64{35 * mbit, 5 * mbit}, second(n), mbit)
		vm[0].reconfigure(func(c *vswitch.VNICConfig) { c.Bandwidth = vswitch.Bandwidth{} })
		l.reconfigure(func(c *vswitch.SwitchConfig) { c.QoS = nil })
		require.InDeltaSlice(t, []float64{80 * mbit, 80 * mbit}, second(n), mbit)
		require.Empty(t, l.sw().Classes())
	})
}

func TestBadBandwidthIsRefused(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, _, vm := dividing(t, vswitch.QoSConfig{LinkRate: 100 * mbit}, weights(20)...)
		l.newSwitch("inside", vswitch.SwitchConfig{})
		for want, b := range map[string]vswitch.Bandwidth{
			"MinWeight 101: is out of 0–100":        {MinWeight: 101},
			"MinWeight -1: is out of 0–100":         {MinWeight: -1},
			"only one of them":                      {MinWeight: 1, MinRate: mbit},
			"MinRate 1000000: the mode is Weight":   {MinRate: mbit},
			"MaxRate 999: is out of":                {MaxRate: 999},
			"Burst 7: there is no MaxRate":          {Burst: 7},
			"Burst 1073741825: is out of":           {MaxRate: mbit, Burst: qos.MaxBurst + 1},
			"MinRate 2000000: is above MaxRate 100": {MinRate: 2 * mbit, MaxRate: mbit},
		} {
			before := vm[0].vnic.Config()
			c := before
			c.Bandwidth = b
			err := vm[0].vnic.SetConfig(c)
			require.ErrorIs(t, err, vswitch.ErrInvalid, "%+v", b)
			require.ErrorContains(t, err, want)
			require.ErrorContains(t, err, `vNIC "vm0"`)
			require.Equal(t, before, vm[0].vnic.Config())
			_, err = l.host.NewVNIC("new", l.free(), &vswitch.VNICConfig{Switch: "lab", Bandwidth: b})
			require.ErrorContains(t, err, want)
		}
		moved := vm[0].vnic.Config()
		moved.Switch = "inside"
		require.ErrorContains(t, vm[0].vnic.SetConfig(moved), `switch "inside": vNIC "vm0": a minimum bandwidth needs QoS`)
		require.True(t, vm[0].vnic.Connected())
		require.Equal(t, "lab", vm[0].vnic.Config().Switch)
		require.Equal(t, "vm0", l.sw().Classes()[0].Name)

		for want, q := range map[string]vswitch.QoSConfig{
			"Mode 7: is not Weight or Absolute": {Mode: 7},
			"LinkRate 5: is out of":             {LinkRate: 5},
			"QueueBytes -1: is out of":          {QueueBytes: -1},
			"vNIC \"vm0\": qos: class \"vm0\":": {Mode: qos.Absolute, LinkRate: mbit},
		} {
			before := l.sw().Config()
			c := before
			c.QoS = &q
			require.ErrorContains(t, l.sw().SetConfig(c), want)
			require.Equal(t, before, l.sw().Config())
		}
		vm[0].reconfigure(func(c *vswitch.VNICConfig) { c.Bandwidth = vswitch.Bandwidth{} })
		c := l.sw().Config()
		c.QoS = &vswitch.QoSConfig{Mode: qos.Absolute}
		require.ErrorContains(t, l.sw().SetConfig(c), "LinkRate 0: mode Absolute needs one", "the uplink does not tell its speed")
		_, err := l.host.NewSwitch("other", &vswitch.SwitchConfig{QoS: &vswitch.QoSConfig{}})
		require.ErrorContains(t, err, `switch "other": QoS: a switch of type private has no uplink`)
	})
}

func TestTheRateFollowsTheSpeedOfTheUplink(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l := newLab(t)
		a, b := l.pipe(ports.PipeConfig{Name: "eth0"})
		nic := &speedy{PipeEnd: a, speed: 100 * mbit}
		_, err := l.host.AddNIC("eth0", nic)
		require.NoError(t, err)
		l.newSwitch("lab", vswitch.SwitchConfig{Type: vswitch.External, Uplink: "eth0", QoS: &vswitch.QoSConfig{Mode: qos.Absolute}})
		vm := l.guests(1)[0]
		wire := &station{lab: l, end: b, mac: stranger(1)}
		m := wire.measure(0)
		vm.offer(wire.mac, 1514, 300*mbit)
		for _, speed := range []uint64{100 * mbit, 50 * mbit, 0, 200 * mbit} {
			nic.set(speed)
			time.Sleep(100 * time.Millisecond)
			if speed == 0 { // not known for the moment
				speed = 50 * mbit
			}
			require.InEpsilon(t, float64(speed), m.second(vm)[0], 0.01)
		}
	})
}

// speedy is a NIC whose speed changes.
type speedy struct {
	*ports.PipeEnd
	mu      sync.Mutex
	speed   uint64
	changed func(ports.Link)
}

func (s *speedy) Link() ports.Link {
	s.mu.Lock()
	defer s.mu.Unlock()
	return ports.Link{Up: true, Speed: s.speed}
}

func (s *speedy) WatchLink(f func(ports.Link)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changed = f
}

func (s *speedy) set(speed uint64) {
	s.mu.Lock()
	s.speed = speed
	f := s.changed
	s.mu.Unlock()
	f(s.Link())
}

// TestNothingIsAllocatedPerFrameThatWaits sends bursts that the uplink cannot take at once.
func TestNothingIsAllocatedPerFrameThatWaits(t *testing.T) {
	l := newLab(t)
	wire := l.nic("eth0")
	l.newSwitch("lab", vswitch.SwitchConfig{Type: vswitch.External, Uplink: "eth0", QoS: &vswitch.QoSConfig{LinkRate: 200 * mbit}})
	vm := l.guest("vm", vswitch.VNICConfig{Switch: "lab", Bandwidth: vswitch.Bandwidth{MinWeight: 50, MaxRate: 1000 * mbit}})
	var frames []*ports.Frame
	for range 64 {
		frames = append(frames, newFrame(frame(stranger(1), vm.mac, string(make([]byte, 1000)))))
	}
	b := ports.NewBatch(64)
	round := func() {
		if n, err := vm.end.Tx(0).Send(frames); n != len(frames) {
			panic(err)
		}
		wire.takeInto(b, len(frames))
	}
	for range 32 {
		round()
	}
	require.Zero(t, testing.AllocsPerRun(20, round))
	require.NotZero(t, l.sw().Classes()[0].DelayMax, "frames have waited")
	require.Zero(t, wire.nic.Stats().Dropped())
}
