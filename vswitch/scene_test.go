package vswitch_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vswitch"
)

// lab is a host with everything that hangs on it, each thing on a Pipe whose other end is in the
// hands of the test. When the test ends the host is closed, and no backend may be left open.
//
// In a bubble of testing/synctest, where most stories take place, goroutines must not be left either:
// synctest sees to that.
type lab struct {
	t    *testing.T
	host *vswitch.Host
	logs logbook
	ends []*ports.PipeEnd
}

func newLab(t *testing.T) *lab { return newLabWith(t, vswitch.HostConfig{}) }

func newLabWith(t *testing.T, cfg vswitch.HostConfig) *lab {
	l := &lab{t: t}
	if cfg.Workers == 0 {
		cfg.Workers = 2
	}
	cfg.Logger = slog.New(slog.NewTextHandler(&l.logs, nil))
	h, err := vswitch.NewHost(&cfg)
	require.NoError(t, err)
	l.host = h
	t.Cleanup(func() {
		require.NoError(t, h.Close())
		for _, e := range l.ends {
			require.True(t, isClosed(e), "backend %q was left open", e.Info().Name)
		}
	})
	return l
}

// privateLab is a private switch "lab" with guests vm0, vm1, …
func privateLab(t *testing.T, guests int) (*lab, []*station) {
	l := newLab(t)
	l.newSwitch("lab", vswitch.SwitchConfig{})
	return l, l.guests(guests)
}

// externalLab is an external switch "lab" with the uplink "eth0", whose other end is the wire, and
// guests vm0, vm1, …
func externalLab(t *testing.T, guests int) (*lab, *station, []*station) {
	l := newLab(t)
	wire := l.nic("eth0")
	l.newSwitch("lab", vswitch.SwitchConfig{Type: vswitch.External, Uplink: "eth0"})
	return l, wire, l.guests(guests)
}

func (l *lab) newSwitch(name string, cfg vswitch.SwitchConfig) *vswitch.Switch {
	l.t.Helper()
	s, err := l.host.NewSwitch(name, &cfg)
	require.NoError(l.t, err)
	return s
}

// sw is the switch of the lab.
func (l *lab) sw() *vswitch.Switch { return l.host.Switch("lab") }

// reconfigure changes the switch of the lab.
func (l *lab) reconfigure(change func(c *vswitch.SwitchConfig)) {
	l.t.Helper()
	c := l.sw().Config()
	change(&c)
	require.NoError(l.t, l.sw().SetConfig(c))
}

func (l *lab) pipe(cfg ports.PipeConfig) (switchEnd, testEnd *ports.PipeEnd) {
	l.t.Helper()
	a, b, err := ports.Pipe(&cfg)
	require.NoError(l.t, err)
	l.ends = append(l.ends, b)
	return a, b
}

// guests are vm0, vm1, … on the switch of the lab.
func (l *lab) guests(n int) []*station {
	l.t.Helper()
	var g []*station
	for i := range n {
		g = append(g, l.guest(fmt.Sprintf("vm%d", i), vswitch.VNICConfig{Switch: "lab"}))
	}
	return g
}

func (l *lab) guest(name string, cfg vswitch.VNICConfig) *station {
	l.t.Helper()
	return l.guestOn(ports.PipeConfig{}, name, cfg)
}

func (l *lab) guestOn(p ports.PipeConfig, name string, cfg vswitch.VNICConfig) *station {
	l.t.Helper()
	p.Name = name
	a, b := l.pipe(p)
	v, err := l.host.NewVNIC(name, a, &cfg)
	require.NoError(l.t, err)
	return &station{lab: l, end: b, vnic: v, mac: v.MAC()}
}

// nic adds a NIC; the station is on the wire behind it.
func (l *lab) nic(name string) *station {
	l.t.Helper()
	return l.nicOn(ports.PipeConfig{}, name)
}

func (l *lab) nicOn(p ports.PipeConfig, name string) *station {
	l.t.Helper()
	p.Name = name
	a, b := l.pipe(p)
	n, err := l.host.AddNIC(name, a)
	require.NoError(l.t, err)
	return &station{lab: l, end: b, nic: n, mac: ports.MAC{0x06, 0, 0, 0, 0, byte(len(l.ends))}}
}

// station is a guest, or whoever is behind a NIC.
type station struct {
	lab  *lab
	end  *ports.PipeEnd
	vnic *vswitch.VNIC // one of the two
	nic  *vswitch.NIC
	mac  ports.MAC
}

// frame returns an Ethernet frame with a text in it.
func frame(dst, src ports.MAC, text string) []byte {
	b := append(dst[:], src[:]...)
	b = binary.BigEndian.AppendUint16(b, etherTypeText)
	return append(b, text...)
}

// tagged inserts tags, given as TPID and TCI in turn, the outermost first.
func tagged(frame []byte, tags ...uint16) []byte {
	b := bytes.Clone(frame[:12])
	for _, v := range tags {
		b = binary.BigEndian.AppendUint16(b, v)
	}
	return append(b, frame[12:]...)
}

const (
	etherTypeText = 0x88b5 // local experimental EtherType 1 (IEEE 802)
	etherTypeFlow = 0x88b6 // local experimental EtherType 2
	tpidQ         = ports.TPID8021Q
	tpidAD        = ports.TPID8021AD
)

// send sends texts to dst in one batch, as whoever the station is.
func (s *station) send(dst ports.MAC, texts ...string) {
	s.lab.t.Helper()
	s.sendAs(s.mac, dst, texts...)
}

func (s *station) sendAs(src, dst ports.MAC, texts ...string) {
	s.lab.t.Helper()
	var f [][]byte
	for _, text := range texts {
		f = append(f, frame(dst, src, text))
	}
	s.sendRaw(f...)
}

// sendRaw sends frames as they look on the wire in one batch.
func (s *station) sendRaw(wire ...[]byte) {
	s.lab.t.Helper()
	var fs []*ports.Frame
	for _, b := range wire {
		fs = append(fs, newFrame(b))
	}
	s.sendFrames(fs...)
}

func (s *station) sendFrames(fs ...*ports.Frame) {
	s.lab.t.Helper()
	n, err := s.end.Tx(0).Send(fs)
	require.NoError(s.lab.t, err)
	require.Equal(s.lab.t, len(fs), n, "the queue of the station is full")
}

func newFrame(wire []byte) *ports.Frame {
	f := new(ports.Frame)
	f.SetHead(bytes.Clone(wire), 0, len(wire))
	return f
}

// got waits until nothing moves any more and returns what has arrived since the last call: the text
// of each frame, with its VLAN in front where it has one.
func (s *station) got() []string {
	var texts []string
	for _, f := range s.received() {
		text := string(f.Head()[14:])
		if f.VLAN.Present() {
			text = fmt.Sprintf("VLAN %d: %s", f.VLAN.VID(), text)
		}
		texts = append(texts, text)
	}
	return texts
}

// received is got for frames.
func (s *station) received() []*ports.Frame {
	s.lab.settle()
	var fs []*ports.Frame
	q := s.end.Rx(0)
	for b := ports.NewBatch(64); ; {
		b.Reset()
		err := q.Recv(b)
		for _, f := range b.Frames() {
			fs = append(fs, new(ports.Frame))
			fs[len(fs)-1].CopyFrom(f)
		}
		q.Release()
		if b.Len() == 0 || err != nil {
			return fs
		}
	}
}

// settle waits until nothing moves any more; in a bubble only.
func (l *lab) settle() { synctest.Wait() }

func (s *station) stats() vswitch.PortStats {
	s.lab.settle()
	if s.nic != nil {
		return s.nic.Stats()
	}
	return s.vnic.Stats()
}

// drops is empty, not nil, when there were none.
func (s *station) drops() map[vswitch.DropReason]uint64 {
	d := map[vswitch.DropReason]uint64{}
	for r, n := range s.stats().Drops {
		d[r] = n
	}
	return d
}

type drops = map[vswitch.DropReason]uint64

func (s *station) reconfigure(change func(c *vswitch.VNICConfig)) {
	s.lab.t.Helper()
	c := s.vnic.Config()
	change(&c)
	require.NoError(s.lab.t, s.vnic.SetConfig(c))
}

func (l *lab) everyoneGot(want []string, who ...*station) {
	l.t.Helper()
	for _, s := range who {
		require.Equal(l.t, want, s.got(), "at %s", s.end.Info().Name)
	}
}

func (l *lab) nobodyGot(who ...*station) {
	l.t.Helper()
	l.everyoneGot(nil, who...)
}

func isClosed(e *ports.PipeEnd) bool { return !e.Link().Up }

func stranger(n int) ports.MAC {
	return ports.MAC{0x0a, 0, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}
}

// flow is traffic from one station to another that has both to itself: numbered frames, no more
// under way than every queue holds. That none is missing, doubled or out of order is checked on
// arrival.
type flow struct {
	t        *testing.T
	from, to *station
	credit   chan struct{}
	stopped  chan struct{}
	sent     chan int // the number of frames, when all have been sent
	count    atomic.Int64
	mu       sync.Mutex
	target   int64
	reached  chan struct{}
	cancel   context.CancelFunc
	done     chan error
}

// window is the number of frames of a flow that are under way at most: a queue holds 256.
const window = 64

// patience is how long a flow may make no progress. In a bubble it costs no time.
const patience = time.Minute

func (l *lab) flow(from, to *station) *flow {
	f := &flow{
		t: l.t, from: from, to: to,
		credit: make(chan struct{}, window), stopped: make(chan struct{}),
		sent: make(chan int, 1), done: make(chan error, 1),
	}
	for range window {
		f.credit <- struct{}{}
	}
	ctx, cancel := context.WithCancel(context.Background())
	f.cancel = cancel
	go f.send(ctx)
	go func() { f.done <- f.receive(ctx) }()
	l.t.Cleanup(func() { // when the test failed before stop
		cancel()
		select {
		case <-f.stopped:
		default:
			close(f.stopped)
		}
	})
	return f
}

func (f *flow) send(ctx context.Context) {
	b := frame(f.to.mac, f.from.mac, "01234567")
	binary.BigEndian.PutUint16(b[12:], etherTypeFlow)
	for n := 0; ; n++ {
		select {
		case <-f.stopped:
			f.sent <- n
			return
		case <-f.credit:
		}
		if n%256 == 255 {
			time.Sleep(time.Microsecond) // in a bubble time stands still while goroutines run
		}
		binary.BigEndian.PutUint64(b[14:], uint64(n))
		if f.from.end.WriteFrame(ctx, b) != nil {
			f.sent <- n
			return
		}
	}
}

func (f *flow) receive(ctx context.Context) error {
	buf := make([]byte, 2048)
	for want := uint64(0); ; {
		n, err := f.to.end.ReadFrame(ctx, buf)
		switch {
		case errors.Is(err, context.Canceled):
			return nil
		case err != nil:
			return err
		case n != 22 || binary.BigEndian.Uint16(buf[12:]) != etherTypeFlow:
			continue // somebody else's
		}
		if is := binary.BigEndian.Uint64(buf[14:]); is != want {
			return fmt.Errorf("frame %d arrived when it was the turn of %d", is, want)
		}
		want++
		f.mu.Lock()
		if f.count.Add(1) == f.target {
			close(f.reached)
		}
		f.mu.Unlock()
		f.credit <- struct{}{}
	}
}

// reach waits until n frames have arrived.
func (f *flow) reach(n int64) {
	f.t.Helper()
	f.mu.Lock()
	f.target, f.reached = n, make(chan struct{})
	if f.count.Load() >= n {
		close(f.reached)
	}
	f.mu.Unlock()
	select {
	case <-f.reached:
	case err := <-f.done:
		require.NoError(f.t, err)
	case <-time.After(patience):
		require.Failf(f.t, "frames were lost", "%d of %d arrived", f.count.Load(), n)
	}
}

// goOn waits until n more frames have arrived.
func (f *flow) goOn(n int64) {
	f.t.Helper()
	f.reach(f.count.Load() + n)
}

// stop ends the flow when all that was sent has arrived, and returns how much that was.
func (f *flow) stop() int {
	f.t.Helper()
	close(f.stopped)
	n := <-f.sent
	f.reach(int64(n))
	f.cancel()
	require.NoError(f.t, <-f.done)
	return n
}

// logbook keeps what a Logger writes.
type logbook struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *logbook) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

// has reports whether one line contains all parts.
func (b *logbook) has(parts ...string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
lines:
	for line := range strings.Lines(b.text.String()) {
		for _, p := range parts {
			if !strings.Contains(line, p) {
				continue lines
			}
		}
		return true
	}
	return false
}

func (l *lab) requireLogged(parts ...string) {
	l.t.Helper()
	require.True(l.t, l.logs.has(parts...), "no line of the log has %q:\n%s", parts, l.logs.text.String())
}

// hurried reports whether the test is to be small: with -short, and with -race, under which
// everything takes ten times as long.
func hurried() bool {
	if testing.Short() {
		return true
	}
	info, _ := debug.ReadBuildInfo()
	for _, s := range info.Settings {
		if s.Key == "-race" {
			return s.Value == "true"
		}
	}
	return false
}

// inBubble runs a story in virtual time.
func inBubble(t *testing.T, story func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, story)
}

// takeInto takes n frames off the cable of a station, without an allocation, and gives them back.
func (s *station) takeInto(b *ports.Batch, n int) {
	deadline := time.Now().Add(patience)
	for q := s.end.Rx(0); n > 0; {
		b.Reset()
		if q.Recv(b) != nil || time.Now().After(deadline) {
			panic("frames are lost")
		}
		n -= b.Len()
		q.Release()
		runtime.Gosched()
	}
}
