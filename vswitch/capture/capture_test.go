package capture

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vswitch/extension"
)

const (
	in  = extension.Ingress
	out = extension.Egress
)

func TestForwardedFrameIsThereAtBothPorts(t *testing.T) {
	s := newScene(t, nil, "web", "db")
	f := numbered(60, 1)
	s.pass(in, "web", func(*extension.Batch) { s.pass(out, "db", nil, f) }, f)

	r := s.close()
	require.Equal(t, []string{"prod/web", "prod/db"}, r.ports)
	require.Len(t, r.packets, 2)
	require.Equal(t, wire(f), r.packets[0].data)
	require.Equal(t, "prod/web", r.packets[0].port)
	require.False(t, r.packets[0].outbound)
	require.Equal(t, wire(f), r.packets[1].data)
	require.Equal(t, "prod/db", r.packets[1].port)
	require.True(t, r.packets[1].outbound)
	require.Equal(t, [4]uint64{1, 1, 1, 0}, r.counts("prod/web"))
	require.Equal(t, Stats{Received: 2, Accepted: 2, Written: 2}, s.c.Stats())
}

func TestDroppedFrameSaysWhy(t *testing.T) {
	s := newScene(t, nil, "web")
	s.pass(in, "web", func(b *extension.Batch) {
		b.Drop(0, "spoofed source")
		b.Drop(2, "firewall: telnet")
		b.Drop(3, "spoofed source")
	}, numbered(60, 0), numbered(61, 1), numbered(62, 2), numbered(63, 3))

	r := s.close()
	var comments []string
	for _, p := range r.packets {
		comments = append(comments, p.comment)
	}
	require.Equal(t, []string{"dropped: spoofed source", "", "dropped: firewall: telnet", "dropped: spoofed source"}, comments)
}

func TestFramesDroppedBeforeCaptureSawThem(t *testing.T) {
	s := newScene(t, nil, "web")
	runt := numbered(5, 1)
	b := s.batch(in, "web", runt, numbered(0, 2))
	b.Drop(0, "runt")
	b.Drop(1, "runt")
	s.c.Fate(b)

	r := s.close()
	require.Len(t, r.packets, 2)
	require.Equal(t, wire(runt), r.packets[0].data)
	require.Equal(t, "dropped: runt", r.packets[0].comment)
	require.Empty(t, r.packets[1].data)
}

func TestFramesAreRecordedAsTheyCame(t *testing.T) {
	s := newScene(t, nil, "web")
	f := numbered(60, 1)
	before := wire(f)
	s.pass(in, "web", func(*extension.Batch) {
		f.Head()[20] ^= 0xff
		f.VLAN = ports.Tag{TPID: ports.TPID8021Q, TCI: 9}
	}, f)
	require.Equal(t, before, s.close().packets[0].data)
}

func TestTagBodyAndSnapLength(t *testing.T) {
	whole := tagged(numbered(300, 1), 0x6005)
	whole.AppendBody(numbered(1000, 2).Head())
	whole.AppendBody(numbered(64000, 3).Head())
	want := wire(whole)
	for _, snap := range []int{1, 11, 12, 13, 14, 16, 17, 303, 304, 305, 1304, 1305, len(want) - 1, len(want), MaxSnapLen, MaxSnapLen + 1} {
		s := newScene(t, &Config{SnapLen: snap}, "web")
		s.pass(in, "web", nil, whole, numbered(14, 4))
		r := s.close()
		require.Len(t, r.packets, 2, "snap length %d", snap)
		require.Equal(t, len(want), r.packets[0].length)
		require.Equal(t, want[:min(snap, len(want))], r.packets[0].data, "snap length %d", snap)
	}
}

func TestFrameThatIsLongerThanFramesCanBe(t *testing.T) {
	s := newScene(t, nil, "web")
	s.pass(in, "web", drop("giant", 0), numbered(4<<20, 1), numbered(60, 2))
	r := s.close()
	require.Equal(t, 4<<20, r.packets[0].length)
	require.Equal(t, "dropped: giant", r.packets[0].comment)
	require.Equal(t, 60, r.packets[1].length)
}

func TestPortThatComesBackIsTheSameInterface(t *testing.T) {
	s := newScene(t, nil, "web")
	again := *s.ports["web"]
	again.Index = 7
	s.c.Disconnect(s.ports["web"], s.states["web"])
	state, err := s.c.Connect(&again)
	require.NoError(t, err)
	require.Same(t, s.states["web"], state)
	again.MAC[0] = 6
	state, err = s.c.Connect(&again)
	require.NoError(t, err)
	require.NotSame(t, s.states["web"], state)
	require.Equal(t, []string{"prod/web", "prod/web"}, s.close().ports)
}

func TestFramesOfNoPortAreNotRecorded(t *testing.T) {
	s := newScene(t, nil, "web")
	b := extension.NewBatch(in, nil, nil, nil, numbered(60, 1))
	s.c.Capture(b)
	s.c.Fate(b)
	require.Empty(t, s.close().packets)
}

// counter counts the bytes that are written.
type counter struct{ atomic.Int64 }

func (c *counter) Write(b []byte) (int, error) {
	c.Add(int64(len(b)))
	return len(b), nil
}

func TestFewFramesAreWrittenAfterTheFlushInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n counter
		c, err := New(&n, &Config{FlushInterval: time.Second})
		require.NoError(t, err)
		synctest.Wait()
		header := n.Load()
		require.NotZero(t, header, "who reads along sees that it has begun")
		s := &scene{t: t}
		s.attach(c, "web")
		time.Sleep(1001 * time.Millisecond)
		ports := n.Load()
		require.Greater(t, ports, header)

		s.pass(in, "web", nil, numbered(60, 1))
		time.Sleep(999 * time.Millisecond)
		require.Equal(t, ports, n.Load())
		time.Sleep(2 * time.Millisecond)
		synctest.Wait()
		require.Greater(t, n.Load(), ports)
		require.Equal(t, Stats{Received: 1, Accepted: 1, Written: 1}, c.Stats())
		require.NoError(t, c.Close())
	})
}

func TestManyFramesAreWrittenAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, &Config{FlushInterval: time.Hour, Buffer: MinBuffer, SnapLen: MaxSnapLen}, "web")
		for range 40 {
			s.pass(in, "web", nil, numbered(1000, 1))
		}
		synctest.Wait()
		require.NotZero(t, s.c.Stats().Written)
		require.Len(t, s.close().packets, 40)
	})
}

// Behind a batch that takes long the others wait, and so does the writer.
func TestBatchThatTakesLongHoldsBackTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, &Config{Buffer: MinBuffer, SnapLen: MaxSnapLen}, "web", "db")
		s.pass(in, "web", func(*extension.Batch) {
			for range 40 {
				s.pass(out, "db", nil, numbered(1000, 1))
			}
			synctest.Wait()
			require.Zero(t, s.c.Stats().Written)
		}, numbered(60, 1))
		synctest.Wait()
		require.EqualValues(t, 41, s.c.Stats().Written, "without waiting for the flush interval")
		require.Len(t, s.close().packets, 41)
	})
}

func TestRecordOfWhichNothingIsWantedInFrontOfOthers(t *testing.T) {
	s := newScene(t, &Config{Filter: Filter{Dropped: true}}, "web", "db")
	s.pass(in, "web", func(*extension.Batch) {
		s.pass(out, "db", drop("queue full", 1), numbered(60, 1), numbered(61, 2))
	}, numbered(62, 3), numbered(63, 4))
	r := s.close()
	require.Len(t, r.packets, 1)
	require.Equal(t, wire(numbered(61, 2)), r.packets[0].data)
	require.Equal(t, "dropped: queue full", r.packets[0].comment)
	require.Equal(t, Stats{Received: 4, Accepted: 1, Written: 1}, s.c.Stats())
}

// gate is a writer that waits until it is opened.
type gate struct {
	open chan struct{}
	w    io.Writer
}

func (g *gate) Write(b []byte) (int, error) {
	<-g.open
	return g.w.Write(b)
}

func TestSlowReaderLosesFramesAndTheSwitchDoesNotWait(t *testing.T) {
	s := &scene{t: t, file: &bytes.Buffer{}}
	g := &gate{make(chan struct{}), s.file}
	c, err := New(g, &Config{Buffer: MinBuffer, SnapLen: MaxSnapLen})
	require.NoError(t, err)
	s.attach(c, "web", "db")
	const batches = 500
	for i := range batches {
		s.pass(in, "web", drop("queue full", 1), numbered(100, i), numbered(1514, i), numbered(60, i))
	}
	st := c.Stats()
	require.EqualValues(t, 3*batches, st.Received)
	require.EqualValues(t, 3*batches, st.Accepted)
	require.Greater(t, st.Lost, uint64(batches))
	require.Less(t, st.Lost, uint64(3*batches-100))

	close(g.open)
	r := s.close()
	st = c.Stats()
	require.Equal(t, st.Accepted, st.Written+st.Lost)
	require.EqualValues(t, len(r.packets), st.Written)
	require.Equal(t, [4]uint64{st.Received, st.Accepted, st.Written, st.Lost}, r.counts("prod/web"))
	require.Equal(t, [4]uint64{}, r.counts("prod/db"))
}

// keeper is a writer that takes its time and sees whether what it got stays as it was.
type keeper struct {
	bytes.Buffer
	changed bool
}

func (k *keeper) Write(b []byte) (int, error) {
	before := k.Len()
	k.Buffer.Write(b)
	time.Sleep(time.Millisecond)
	k.changed = k.changed || !bytes.Equal(b, k.Bytes()[before:])
	return len(b), nil
}

func TestWhatIsBeingWrittenStaysAsItIs(t *testing.T) {
	k := &keeper{}
	c, err := New(k, &Config{Buffer: MinBuffer, FlushInterval: time.Microsecond})
	require.NoError(t, err)
	s := &scene{t: t}
	s.attach(c, "web")
	for i := range 20_000 {
		s.pass(in, "web", nil, numbered(60, i), numbered(100, i))
	}
	require.NoError(t, c.Close())
	require.False(t, k.changed)
	st := c.Stats()
	require.NotZero(t, st.Lost, "the buffer was used up")
	require.EqualValues(t, len(read(t, k.Bytes()).packets), st.Written)
}

func TestBatchThatFitsInPartIsRecordedInPart(t *testing.T) {
	s := &scene{t: t, file: &bytes.Buffer{}}
	g := &gate{make(chan struct{}), s.file}
	c, err := New(g, &Config{Buffer: MinBuffer, SnapLen: MaxSnapLen})
	require.NoError(t, err)
	s.attach(c, "web")
	f := numbered(60000, 1)
	s.pass(in, "web", drop("queue full", 1, 3), f, f, f, f)
	close(g.open)
	r := s.close()
	require.Len(t, r.packets, 2)
	require.Equal(t, "dropped: queue full", r.packets[1].comment)
	require.Equal(t, Stats{Received: 4, Accepted: 4, Written: 2, Lost: 2}, c.Stats())
}

func TestWriterThatFailsEndsTheCapture(t *testing.T) {
	full := errors.New("no space left on device")
	r, w := io.Pipe()
	c, err := New(w, &Config{FlushInterval: time.Millisecond})
	require.NoError(t, err)
	s := &scene{t: t}
	s.attach(c, "web")
	s.pass(in, "web", nil, numbered(60, 1))
	r.CloseWithError(full)
	<-c.Done()
	require.ErrorIs(t, c.Err(), full)
	for range 10000 {
		s.pass(in, "web", nil, numbered(60, 1))
	}
	require.ErrorIs(t, c.Close(), full)
	require.ErrorIs(t, c.Close(), full)
	st := c.Stats()
	require.Less(t, st.Received, uint64(10))
	require.Zero(t, st.Written)
	require.Equal(t, st.Accepted, st.Lost)
}

type shortWriter struct{}

func (shortWriter) Write(b []byte) (int, error) { return len(b) / 2, nil }

func TestShortWriteIsAnError(t *testing.T) {
	c, err := New(shortWriter{}, nil)
	require.NoError(t, err)
	require.ErrorIs(t, c.Close(), io.ErrShortWrite)
}

func TestCloseWhileFramesAreUnderWay(t *testing.T) {
	s := newScene(t, nil, "web")
	s.pass(in, "web", nil, numbered(60, 1))
	s.pass(in, "web", func(*extension.Batch) {
		require.NoError(t, s.c.Close())
	}, numbered(61, 2))
	r := read(t, s.file.Bytes())
	require.Len(t, r.packets, 1)
}

func TestConfigThatIsWrongIsRefused(t *testing.T) {
	for want, cfg := range map[string]Config{
		"capture: snap length -1 is negative":               {SnapLen: -1},
		"capture: buffer of 4096 bytes is smaller than":     {Buffer: 4096},
		"capture: flush interval -1s is negative":           {FlushInterval: -time.Second},
		"capture: filter: 7 is no direction":                {Filter: Filter{Directions: []extension.Direction{7}}},
		"capture: filter: the zero prefix has no addresses": {Filter: Filter{Prefixes: make([]netip.Prefix, 1)}},
	} {
		_, err := New(io.Discard, &cfg)
		require.ErrorContains(t, err, want)
	}
}

// Workers capture at once, for different ports and the same one; each frame is there once, whole, and in
// the order of its port and worker.
func TestManyWorkers(t *testing.T) {
	const workers, batches = 4, 300
	s := newScene(t, &Config{Buffer: 16 << 20, SnapLen: MaxSnapLen, FlushInterval: time.Millisecond}, "a", "b", "c", "d", "uplink")
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(1, uint64(w)))
			for i := range batches {
				frames := make([]*ports.Frame, 1+rnd.IntN(8))
				for k := range frames {
					frames[k] = numbered(14+rnd.IntN(200), 0)
					copy(frames[k].Head(), []byte{byte(w), byte(i), byte(i >> 8), byte(k)})
				}
				s.pass(in, string(rune('a'+w)), func(b *extension.Batch) {
					s.pass(out, "uplink", nil, frames...)
					b.Drop(0, "queue full")
				}, frames...)
			}
		})
	}
	wg.Wait()
	r := s.close()
	last := map[string][]byte{}
	for _, p := range r.packets {
		worker := p.data[0]
		stamp := []byte{p.data[2], p.data[1], p.data[3]}
		key := p.port + string(rune(worker))
		require.Positive(t, slices.Compare(stamp, last[key]))
		last[key] = stamp
		require.Equal(t, !p.outbound && p.data[3] == 0, p.comment == "dropped: queue full")
		for i := 4; i < len(p.data); i++ {
			require.Equal(t, byte(i), p.data[i])
		}
	}
	st := s.c.Stats()
	require.Equal(t, Stats{Received: st.Received, Accepted: st.Received, Written: st.Received}, st)
	require.EqualValues(t, len(r.packets), st.Received)
}

func TestAnyNumberOfReasonsIsBounded(t *testing.T) {
	s := newScene(t, &Config{Buffer: 16 << 20}, "web")
	for i := range maxReasons + 100 {
		s.pass(in, "web", drop(string(rune('a'+i)), 0), numbered(14, 1))
	}
	r := s.close()
	require.Equal(t, "dropped: a", r.packets[0].comment)
	require.Equal(t, "dropped: for another reason", r.packets[maxReasons+99].comment)
	require.Len(t, s.c.comments, maxReasons+1)
}

func TestNoAllocation(t *testing.T) {
	c, err := New(io.Discard, &Config{Filter: Filter{TransportPorts: []uint16{53}}})
	require.NoError(t, err)
	s := &scene{t: t}
	s.attach(c, "web")
	frames := make([]*ports.Frame, 32)
	for i := range frames {
		frames[i] = tagged(udp("10.0.0.1", "10.0.0.2", 53, 4000), 5)
	}
	b := s.batch(in, "web", frames...)
	b.Drop(3, "spoofed source")
	c.Capture(b)
	c.Fate(b)
	require.Zero(t, testing.AllocsPerRun(200, func() {
		c.Capture(b)
		c.Fate(b)
	}))
	require.NoError(t, c.Close())
}
