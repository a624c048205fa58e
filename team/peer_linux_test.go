package team_test

import (
	"encoding/binary"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/ports/portstest"
	"github.com/hvswitch/hvswitch/team"
)

func await(t *testing.T, limit time.Duration, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !so(); time.Sleep(20 * time.Millisecond) {
		require.True(t, time.Now().Before(end), what)
	}
}

// serve receives from a team until the test ends, and counts frames by flow.
func serve(t *testing.T, tm *team.Team) (count func(flow int) int) {
	var mu sync.Mutex
	seen := map[int]int{}
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		b := ports.NewBatch(64)
		for {
			select {
			case <-stop:
				return
			default:
			}
			n := 0
			for i := range tm.Info().RxQueues {
				q := tm.Rx(i)
				b.Reset()
				_ = q.Recv(b)
				n += b.Len()
				mu.Lock()
				for _, f := range b.Frames() {
					if h := f.Head(); len(h) >= 50 && binary.BigEndian.Uint16(h[12:]) == 0x0800 {
						seen[flowOf(f)]++
					}
				}
				mu.Unlock()
				b.Reset()
				q.Release()
			}
			if n == 0 {
				time.Sleep(time.Millisecond)
			}
		}
	}()
	t.Cleanup(func() {
		close(stop)
		<-done
	})
	return func(flow int) int {
		mu.Lock()
		defer mu.Unlock()
		return seen[flow]
	}
}

// link is a team and a host, with a switch between them that is not ours.
type link struct {
	*testing.T
	team  *team.Team
	host  portstest.Peer
	count func(flow int) int // at the team
	flow  int                // from which on none has been used
}

func newLink(t *testing.T, tm *team.Team, host string) *link {
	t.Helper()
	return &link{T: t, team: tm, count: serve(t, tm), host: portstest.Interface(t, host)}
}

// traffic sends frames of many flows each way. Each arrives once.
func (l *link) traffic() {
	l.Helper()
	const flows = 32
	first := l.flow
	l.flow += 1000
	probe := first + 2*flows
	send := func(f *ports.Frame) {
		l.Helper()
		await(l.T, 10*time.Second, "there is no room", func() bool {
			n, err := l.team.Tx(0).Send([]*ports.Frame{f})
			require.NoError(l, err)
			return n == 1
		})
	}
	await(l.T, 20*time.Second, "nothing arrives", func() bool { // until the switch forwards
		send(numbered(udpFrame(vnicOf(1), hostOf(1), 99, 100), probe, 0))
		p, ok := l.host.Take(50 * time.Millisecond)
		return ok && binary.BigEndian.Uint32(p.Bytes[42:]) == uint32(probe)
	})
	await(l.T, 20*time.Second, "nothing comes back", func() bool {
		require.NoError(l, l.host.Put(portstest.Packet{Bytes: numbered(udpFrame(hostOf(1), vnicOf(1), 99, 100), probe, 0).Head()}))
		time.Sleep(20 * time.Millisecond)
		return l.count(probe) > 0
	})
	for i := range flows {
		send(numbered(udpFrame(vnicOf(1), hostOf(1), i, 100), first+i, 0))
	}
	got := map[int]int{}
	await(l.T, 10*time.Second, "not all arrive", func() bool {
		for {
			p, ok := l.host.Take(300 * time.Millisecond) // long enough for a second copy
			if !ok {
				return len(got) == flows
			}
			if binary.BigEndian.Uint16(p.Bytes[12:]) == 0x0800 { // and no announcement
				if flow := int(binary.BigEndian.Uint32(p.Bytes[42:])); flow != probe {
					got[flow]++
				}
			}
		}
	})
	for i := range flows {
		require.Equal(l, 1, got[first+i])
	}
	for i := range flows {
		require.NoError(l, l.host.Put(portstest.Packet{Bytes: numbered(udpFrame(hostOf(1), vnicOf(1), i, 100), first+flows+i, 0).Head()}))
	}
	await(l.T, 10*time.Second, "not all come back", func() bool {
		for i := range flows {
			if l.count(first+flows+i) == 0 {
				return false
			}
		}
		return true
	})
	time.Sleep(100 * time.Millisecond) // long enough for a second copy
	for i := range flows {
		require.Equal(l, 1, l.count(first+flows+i))
	}
}
