package vswitch

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/hvswitch/hvswitch/ports"
)

// memGuest is a backend in the manner of guest memory: it lends the same frames again and again and
// copies what it is sent once.
type memGuest struct {
	frames []ports.Frame
	next   int
	burst  int
	ring   [256][2048]byte
	pos    int
}

func (g *memGuest) Info() ports.Info {
	return ports.Info{MTU: 1500, RxQueues: 1, TxQueues: 1, Offloads: ports.OffloadAll}
}
func (g *memGuest) Rx(int) ports.RxQueue { return g }
func (g *memGuest) Tx(int) ports.TxQueue { return g }
func (g *memGuest) Close() error         { return nil }
func (g *memGuest) SetBell(func())       {}
func (g *memGuest) Arm() bool            { return false }
func (g *memGuest) Release()             {}
func (g *memGuest) Recv(b *ports.Batch) error {
	if len(g.frames) == 0 {
		return nil
	}
	for range g.burst {
		b.Lend(&g.frames[g.next])
		if g.next++; g.next == len(g.frames) {
			g.next = 0
		}
	}
	return nil
}

func (g *memGuest) Send(frames []*ports.Frame) (int, error) {
	for _, f := range frames {
		f.CopyTo(g.ring[g.pos][:])
		g.pos = (g.pos + 1) % len(g.ring)
	}
	return len(frames), nil
}

func BenchmarkForward(b *testing.B) {
	for _, spoof := range []bool{false, true} {
		for _, size := range []int{64, 1514} {
			for _, burst := range []int{1, 32, 64} {
				b.Run(fmt.Sprintf("learn=%v/%dB/burst=%d", spoof, size, burst), func(b *testing.B) {
					h, _ := NewHost(&HostConfig{Workers: 1})
					defer h.Close()
					if _, err := h.NewSwitch("s", nil); err != nil {
						b.Fatal(err)
					}
					var g [2]*memGuest
					var v [2]*VNIC
					for i := range g {
						g[i] = &memGuest{burst: burst}
						v[i], _ = h.NewVNIC(fmt.Sprint(i), g[i], &VNICConfig{Switch: "s", AllowSpoofing: spoof})
					}
					for range 64 {
						m := make([]byte, 2048)
						var d, s [8]byte
						binary.LittleEndian.PutUint64(d[:], loadMAC(v[1].MAC()))
						binary.LittleEndian.PutUint64(s[:], loadMAC(v[0].MAC()))
						copy(m[128:], d[:6])
						copy(m[134:], s[:6])
						m[140] = 8
						g[0].frames = append(g[0].frames, ports.Frame{})
						g[0].frames[len(g[0].frames)-1].SetHead(m, 128, size)
					}
					w := h.workers[0]
					w.stop() // the benchmark is the worker
					q := v[0].port.rx[0]
					b.ReportAllocs()
					b.ResetTimer()
					for i := 0; i < b.N; i += burst {
						w.serve(q)
					}
				})
			}
		}
	}
}
