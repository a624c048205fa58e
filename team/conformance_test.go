package team_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/ports/portstest"
	"github.com/hvswitch/hvswitch/team"
)

// far is the other ends of the members' cables.
type far struct {
	peers  []portstest.Peer
	floods bool                // a switch that sends everything to all, rather than one that aggregates
	knows  func(ports.MAC) int // a switch that knows where addresses are
	next   int
}

func (f *far) Put(k portstest.Packet) error {
	n := len(f.peers)
	if f.knows != nil && len(k.Bytes) >= 6 {
		if at := f.knows(ports.MAC(k.Bytes)); at >= 0 {
			return f.peers[at].Put(k)
		}
	}
	if !f.floods {
		flow := k.Queue
		k.Queue = flow / n
		return f.peers[flow%n].Put(k)
	}
	for _, p := range f.peers {
		if err := p.Put(k); err != nil {
			return err
		}
	}
	return nil
}

func (f *far) Take(wait time.Duration) (portstest.Packet, bool) {
	for end := time.Now().Add(wait); ; {
		for range f.peers {
			f.next = (f.next + 1) % len(f.peers)
			if k, ok := f.peers[f.next].Take(0); ok {
				return k, true
			}
		}
		left := time.Until(end)
		if left <= 0 {
			return portstest.Packet{}, false
		}
		if k, ok := f.peers[f.next].Take(min(left, time.Millisecond)); ok {
			return k, true
		}
	}
}

// turned is a team for whose suite the addresses of both sides differ, while the suite has the same on
// both: frames sent have another bit set in their source, which the far end clears.
type turned struct {
	portsBackend
	tx []*turnedTx
}

type turnedTx struct {
	ports.TxQueue
	forks [256]ports.Frame
	list  []*ports.Frame
}

const turnedBit = 4

// portsBackend is a team or a pair.
type portsBackend interface {
	ports.Backend
	ports.LinkWatcher
}

func turn(t portsBackend) *turned {
	u := &turned{portsBackend: t}
	for i := range t.Info().TxQueues {
		u.tx = append(u.tx, &turnedTx{TxQueue: t.Tx(i), list: make([]*ports.Frame, 256)})
	}
	return u
}

func (u *turned) Tx(i int) ports.TxQueue { return u.tx[i] }

func (q *turnedTx) Send(frames []*ports.Frame) (sent int, err error) {
	for len(frames) > 0 {
		part := frames[:min(len(frames), len(q.forks))]
		for i, f := range part {
			q.list[i] = &q.forks[i]
			q.list[i].Fork(f)
			if head := q.list[i].Head(); len(head) >= 12 {
				head[6] |= turnedBit
			}
		}
		n, err := q.TxQueue.Send(q.list[:len(part)])
		if sent += n; n < len(part) || err != nil {
			return sent, err
		}
		frames = frames[n:]
	}
	return sent, nil
}

// turnedPeer also leaves out what has no whole header: it belongs to no flow, and flows have no order.
type turnedPeer struct{ portstest.Peer }

func (p turnedPeer) Take(wait time.Duration) (portstest.Packet, bool) {
	for {
		k, ok := p.Peer.Take(wait)
		if !ok {
			return k, false
		}
		if len(k.Bytes) >= 14 && (k.Bytes[12] != 0x81 || len(k.Bytes) >= 18) {
			k.Bytes[6] &^= turnedBit
			return k, true
		}
	}
}

func macOf(i int) ports.MAC { return ports.MAC{2, 0, 0, 0, 1, byte(i)} }

func TestTeamOfPipesConforms(t *testing.T) {
	oneFlow := portstest.Lacks{portstest.Spread: "all frames are for one station, which is pinned to one member"}
	for name, c := range map[string]struct {
		members int
		pipe    ports.PipeConfig
		cfg     team.Config
		lacks   portstest.Lacks
	}{
		"static, address hash": {3, ports.PipeConfig{}, team.Config{Mode: team.Static, Distribution: team.AddressHash}, nil},
		"static, dynamic, offloads, queues": {2, ports.PipeConfig{Queues: 2, Depth: 32, Offloads: ports.OffloadAll},
			team.Config{Mode: team.Static, FlowletGap: time.Second}, nil}, // receivers may be slow
		"static, Hyper-V port": {2, ports.PipeConfig{Offloads: ports.OffloadAll},
			team.Config{Mode: team.Static, Distribution: team.HyperVPort}, nil},
		"one member":   {1, ports.PipeConfig{}, team.Config{Distribution: team.AddressHash}, nil},
		"Hyper-V port": {2, ports.PipeConfig{Queues: 2}, team.Config{Distribution: team.HyperVPort}, oneFlow},
		"dynamic":      {3, ports.PipeConfig{Depth: 64}, team.Config{FlowletGap: time.Second}, oneFlow},
		"address hash": {2, ports.PipeConfig{}, team.Config{Distribution: team.AddressHash}, oneFlow},
	} {
		t.Run(name, func(t *testing.T) {
			portstest.Run(t, func(t *testing.T) portstest.Rig {
				f := &far{floods: c.cfg.Mode == team.SwitchIndependent}
				var members []team.Member
				var ends []*ports.PipeEnd
				for i := range c.members {
					a, b, err := ports.Pipe(&c.pipe)
					require.NoError(t, err)
					members = append(members, team.Member{Backend: a, MAC: macOf(i)})
					ends = append(ends, a)
					f.peers = append(f.peers, portstest.Far(b))
				}
				cfg := c.cfg
				cfg.UpDelay = -1
				tm, err := team.New(members, &cfg)
				require.NoError(t, err)
				if c.cfg.Mode == team.SwitchIndependent && c.cfg.Distribution != team.AddressHash {
					f.knows = tm.PinOf
				}
				depth := c.pipe.Depth
				if depth == 0 {
					depth = 256
				}
				return portstest.Rig{
					Backend: turn(tm),
					Peer:    turnedPeer{f},
					Depth:   depth,
					SetLink: func(up bool) {
						for _, e := range ends {
							e.SetLink(up)
						}
					},
					Puts: c.pipe.Offloads, Takes: c.pipe.Offloads,
					Lacks: c.lacks,
				}
			})
		})
	}
}
