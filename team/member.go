package team

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/team/lacp"
)

// member is a backend of the team.
type member struct {
	name     string
	backend  ports.Backend
	info     ports.Info
	mac      ports.MAC
	slot     uint8
	standby  bool
	priority uint16 // LACP port priority
	tx       []*memberTx

	// What follows is under Team.mu.
	link    ports.Link
	up      bool // since upSince; link, as far as it may be trusted
	upSince time.Duration
	usable  bool
	retryAt time.Duration // until then it is given up, as Send says that its link is down
	speed   uint64        // weight, or 0 when not known
	port    *lacp.Port    // in mode LACP
	pending *ports.Frame  // of a slow protocol, for which there was no room

	inbox inbox

	failed atomic.Bool // Send says that the link is down
	broken atomic.Bool // Recv says that a queue is dead
	count  counters
}

// memberTx is a transmit queue of a member, which queues of the team share.
type memberTx struct {
	mu   sync.Mutex
	tx   ports.TxQueue
	gone bool // the member has been removed
}

// send is tx.Send for whoever wants to.
func (q *memberTx) send(frames []*ports.Frame) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.gone {
		return 0, ports.ErrClosed
	}
	return q.tx.Send(frames)
}

func newMember(m *Member) *member {
	info := m.Backend.Info()
	n := &member{name: m.Name, backend: m.Backend, info: info, mac: m.MAC}
	if n.name == "" {
		n.name = info.Name
	}
	if n.mac.IsZero() {
		n.mac = info.MAC
	}
	for i := range info.TxQueues {
		n.tx = append(n.tx, &memberTx{tx: m.Backend.Tx(i)})
	}
	return n
}

// letGo sees to it that no queue of the team uses the member's any more.
func (m *member) letGo() {
	for _, q := range m.tx {
		q.mu.Lock()
		q.gone = true
		q.mu.Unlock()
	}
}
