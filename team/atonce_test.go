package team_test

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/team"
)

// All queues are busy while members come, go and fail, and somebody looks on; then the team is closed.
func TestEverythingAtOnce(t *testing.T) {
	for _, d := range []team.Distribution{team.HyperVPort, team.AddressHash, team.Dynamic} {
		t.Run(d.String(), func(t *testing.T) {
			near, far := pipes(t, 4, &ports.PipeConfig{Queues: 2})
			tm, err := team.New(membersOf(near[:3], 1), &team.Config{Distribution: d, UpDelay: -1})
			require.NoError(t, err)
			var all sync.WaitGroup
			var stop atomic.Bool
			var sent, received atomic.Int64
			loop := func(f func(n int)) {
				all.Add(1)
				go func() {
					defer all.Done()
					for n := 0; !stop.Load(); n++ {
						f(n)
						runtime.Gosched()
					}
				}()
			}
			for i := range tm.Info().TxQueues {
				flows := flowFrames(32)
				loop(func(int) {
					n, err := tm.Tx(i).Send(flows)
					if err != nil && !errors.Is(err, ports.ErrClosed) && !errors.Is(err, ports.ErrLinkDown) {
						t.Error(err)
					}
					sent.Add(int64(n))
				})
			}
			for i := range tm.Info().RxQueues {
				q, b := tm.Rx(i), ports.NewBatch(16)
				loop(func(int) {
					b.Reset()
					if err := q.Recv(b); err != nil && !errors.Is(err, ports.ErrClosed) {
						t.Error(err)
					}
					for _, f := range b.Frames() {
						if f.Len() < 60 {
							t.Error("a frame is short")
						}
					}
					received.Add(int64(b.Len()))
					b.Reset()
					q.Release()
					q.(ports.Notifier).Arm()
				})
			}
			for i := range far {
				flow := udpFrame(hostOf(i), vnicOf(i), i, 60)
				b := ports.NewBatch(64)
				loop(func(int) {
					_, _ = far[i].Tx(0).Send([]*ports.Frame{flow})
					drain(b, far[i].Rx(0), far[i].Rx(1))
				})
			}
			loop(func(n int) {
				near[n%2].SetLink(n/2%2 == 0)
				time.Sleep(100 * time.Microsecond)
			})
			loop(func(n int) {
				name := fmt.Sprint("new", n)
				if err := tm.Add(team.Member{Name: name, Backend: near[3], MAC: macOf(99)}); err != nil {
					if !errors.Is(err, ports.ErrClosed) {
						t.Error(err)
					}
					return
				}
				time.Sleep(200 * time.Microsecond)
				if b, err := tm.Remove(name); err != nil && !errors.Is(err, ports.ErrClosed) || err == nil && b != near[3] {
					t.Error(b, err)
				}
			})
			loop(func(int) {
				tm.Stats()
				tm.Link()
				tm.WatchLink(func(ports.Link) {})
				tm.Forget(vnicOf(1))
				time.Sleep(100 * time.Microsecond)
			})
			time.Sleep(200 * time.Millisecond)
			require.NoError(t, tm.Close())
			stop.Store(true)
			all.Wait()
			require.NotZero(t, sent.Load())
			require.NotZero(t, received.Load())
		})
	}
}
