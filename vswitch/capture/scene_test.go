package capture

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vswitch/extension"
)

// scene is a switch with one capture, as far as captures see it.
type scene struct {
	t      testing.TB
	c      *Capture
	file   *bytes.Buffer
	states map[string]any
	ports  map[string]*extension.Port
}

func newScene(t testing.TB, cfg *Config, names ...string) *scene {
	t.Helper()
	s := &scene{t: t, file: &bytes.Buffer{}}
	c, err := New(s.file, cfg)
	require.NoError(t, err)
	s.attach(c, names...)
	return s
}

// attach connects ports to a capture.
func (s *scene) attach(c *Capture, names ...string) {
	s.t.Helper()
	s.c, s.states, s.ports = c, map[string]any{}, map[string]*extension.Port{}
	for i, n := range names {
		p := &extension.Port{Switch: "prod", Name: n, MAC: ports.MAC{2, 0, 0, 0, 0, byte(i + 1)}, MTU: 1500, Speed: 10e9, Index: i}
		state, err := c.Connect(p)
		if err == nil {
			s.states[n] = state
		} else {
			require.ErrorIs(s.t, err, extension.ErrSkip)
		}
		s.ports[n] = p
	}
}

func (s *scene) batch(d extension.Direction, port string, frames ...*ports.Frame) *extension.Batch {
	return extension.NewBatch(d, s.ports[port], nil, s.states[port], frames...)
}

// pass sends frames through a port. fate, which may be nil, is called between Capture and Fate.
func (s *scene) pass(d extension.Direction, port string, fate func(*extension.Batch), frames ...*ports.Frame) {
	b := s.batch(d, port, frames...)
	_, ok := s.states[port] // the switch does not ask an extension that skips the port
	if ok {
		s.c.Capture(b)
	}
	if fate != nil {
		fate(b)
	}
	if ok {
		s.c.Fate(b)
	}
}

// close ends the capture and reads the file.
func (s *scene) close() recording {
	s.t.Helper()
	require.NoError(s.t, s.c.Close())
	return read(s.t, s.file.Bytes())
}

func frameOf(b []byte) *ports.Frame {
	f := &ports.Frame{}
	f.SetHead(b, 0, len(b))
	return f
}

// numbered is a frame of n bytes that differ by number.
func numbered(n, number int) *ports.Frame {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i + 7*number)
	}
	return frameOf(b)
}

func tagged(f *ports.Frame, tci uint16) *ports.Frame {
	f.VLAN = ports.Tag{TPID: ports.TPID8021Q, TCI: tci}
	return f
}

func wire(f *ports.Frame) []byte {
	b := make([]byte, f.WireLen())
	f.CopyTo(b)
	return b
}

func udp(src, dst string, sport, dport uint16) *ports.Frame {
	a, b := netip.MustParseAddr(src), netip.MustParseAddr(dst)
	p := []byte{2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1}
	if a.Is4() {
		p = append(p, 0x08, 0x00, 0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0)
	} else {
		p = append(p, 0x86, 0xdd, 0x60, 0, 0, 0, 0, 8, 17, 64)
	}
	p = append(append(p, a.AsSlice()...), b.AsSlice()...)
	p = binary.BigEndian.AppendUint16(p, sport)
	p = binary.BigEndian.AppendUint16(p, dport)
	return frameOf(append(p, 0, 8, 0, 0))
}

func arp(sender, target string) *ports.Frame {
	a, b := netip.MustParseAddr(sender).As4(), netip.MustParseAddr(target).As4()
	p := []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1}
	p = append(append(p, a[:]...), 0, 0, 0, 0, 0, 0)
	return frameOf(append(p, b[:]...))
}

func drop(reason string, places ...int) func(*extension.Batch) {
	return func(b *extension.Batch) {
		for _, i := range places {
			b.Drop(i, reason)
		}
	}
}
