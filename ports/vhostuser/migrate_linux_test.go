package vhostuser

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/ports/portstest"
)

// The dirty log has a mark for each page of guest memory that was written, and for no other.
func TestDirtyLog(t *testing.T) {
	for _, c := range []struct {
		name string
		f    uint64
		l    layout
	}{
		{"split", allFeatures, layout{}},
		{"split with flags", allFeatures &^ featEventIdx, layout{}},
		{"split with many buffers", allFeatures, layout{rxLen: 300, cuts: []int{12, 50}}},
		{"split indirect", allFeatures, layout{indirect: true}},
		{"packed", allFeatures | featPacked, layout{}},
		{"packed with many buffers", allFeatures | featPacked, layout{rxLen: 300, cuts: []int{12, 50}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.l.txLen = 2048
			p, g := plug(t, nil, vmConfig{features: c.f, layout: c.l, size: 512})
			passes(t, p, g, 0)

			pages := int((highBase + uint64(len(g.mem)/2)) >> 12)
			size := (pages/8 + 4095) &^ 4095
			fd, err := unix.MemfdCreate("log", unix.MFD_CLOEXEC)
			require.NoError(t, err)
			defer unix.Close(fd)
			require.NoError(t, unix.Ftruncate(fd, int64(size)))
			log, err := unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
			require.NoError(t, err)
			defer unix.Munmap(log)

			require.Zero(t, g.ask2(reqSetLogBase, quads(uint64(size), 0), fd))
			g.must(reqSetFeatures, quads(c.f|featLogAll))
			for _, q := range g.all() {
				g.must(reqSetVringAddr, q.address(1))
			}
			clear(log)
			before := append([]byte(nil), g.mem...)
			// Nothing that the driver writes, and no two equal bytes in a row, hide what the device does.
			for i := range g.mem {
				if i >= g.slots[0][0].at && i < g.slots[0][0].at+512*g.slots[0][0].len {
					before[i] = 0x11
					g.mem[i] = 0x11
				}
			}
			for i := range 20 {
				f := frame(ether(60+i*70, 0x80))
				n, err := p.Tx(0).Send([]*ports.Frame{f})
				require.NoError(t, err)
				require.Equal(t, 1, n)
			}
			dirty := map[int]bool{}
			for i := range g.mem {
				if g.mem[i] != before[i] {
					dirty[i>>12] = true
				}
			}
			require.NotEmpty(t, dirty)
			require.Equal(t, dirty, marked(g, log))

			clear(log)
			require.NoError(t, g.Put(portstest.Packet{Bytes: ether(900, 0)}))
			recv(t, p, 0, 1)
			q := g.tx[0]
			want := map[int]bool{q.used >> 12: true}
			if q.packed {
				want = map[int]bool{q.desc >> 12: true}
			}
			got := marked(g, log)
			delete(got, q.used>>12)
			delete(want, q.used>>12)
			assert.Equal(t, want, got)

			// And no longer.
			g.must(reqSetFeatures, quads(c.f))
			clear(log)
			for range 512 {
				if _, ok := g.takeFrom(0); !ok {
					break
				}
			}
			passes(t, p, g, 0)
			assert.Empty(t, marked(g, log))
		})
	}
}

// marked returns the pages of guest memory that the log names, by their place.
func marked(g *vm, log []byte) map[int]bool {
	all := map[int]bool{}
	for i, b := range log {
		for bit := range 8 {
			if b&(1<<bit) == 0 {
				continue
			}
			at := uint64(i*8+bit) << 12
			if at >= highBase {
				all[int(at-highBase)>>12+len(g.mem)/2>>12] = true
			} else {
				all[int(at-lowBase)>>12] = true
			}
		}
	}
	return all
}

// ask2 is ask with descriptors.
func (g *vm) ask2(r request, payload []byte, fds ...int) uint64 {
	g.t.Helper()
	require.NoError(g.t, g.send(r, 0, payload, fds...))
	b, _, err := g.receive()
	require.NoError(g.t, err)
	require.Len(g.t, b, 8)
	return le.Uint64(b)
}

// The device notifies when it is asked to, and not else.
func TestNotifications(t *testing.T) {
	for _, c := range []struct {
		name string
		f    uint64
	}{
		{"split", allFeatures},
		{"split with flags", allFeatures &^ featEventIdx},
		{"packed", allFeatures | featPacked},
		{"packed with flags", (allFeatures | featPacked) &^ featEventIdx},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, g := plug(t, nil, vmConfig{features: c.f})
			passes(t, p, g, 0)
			q := g.rx[0]
			send := func(n int) {
				var fs []*ports.Frame
				for range n {
					fs = append(fs, frame(ether(60, 0)))
				}
				n, err := p.Tx(0).Send(fs)
				require.NoError(t, err)
				require.Len(t, fs, n)
			}
			drain := func() {
				for {
					if _, ok := g.takeFrom(0); !ok {
						return
					}
				}
			}
			q.enableCalls()
			q.called()
			send(20)
			assert.EqualValues(t, 1, q.called(), "one for a batch")
			if g.features&featEventIdx != 0 {
				send(5)
				assert.Zero(t, q.called(), "the event has passed")
			}
			drain()
			q.disableCalls()
			q.enableCalls()
			send(1)
			assert.EqualValues(t, 1, q.called())
			drain()
			q.disableCalls()
			if q.packed || !q.eventIdx {
				send(20)
				assert.Zero(t, q.called(), "notifications are disabled")
				drain()
			}

			// In the other direction: while the device polls, the driver need not notify it.
			n := p.Rx(0).(ports.Notifier)
			n.SetBell(func() {})
			put := func() (kicks int) {
				kicks = g.tx[0].kicks
				require.NoError(t, g.Put(portstest.Packet{Bytes: ether(60, 0)}))
				return g.tx[0].kicks - kicks
			}
			require.False(t, n.Arm())
			assert.Equal(t, 1, put())
			recv(t, p, 0, 1)
			put() // when this is found, the device does not ask any more
			recv(t, p, 0, 1)
			for range 10 {
				assert.Zero(t, put())
				recv(t, p, 0, 1)
			}
			require.False(t, n.Arm())
			assert.Equal(t, 1, put())
			assert.True(t, n.Arm(), "a frame is there")
			recv(t, p, 0, 1)
		})
	}
}
