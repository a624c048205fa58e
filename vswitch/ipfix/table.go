package ipfix

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/hvswitch/hvswitch/vswitch/extension"
)

// table holds the flows of one connected port.
type table struct {
	exporter *Exporter
	port     atomic.Pointer[extension.Port]
	named    bool // the name of the port has been sent; under the lock of the exporter

	mu    sync.Mutex
	flows []flow         // without gaps, in any order
	where map[key]uint32 // index in flows
	hand  int            // where the search for the next victim begins
}

const (
	candidates = 8 // flows of which the oldest makes room
	sweepFlows = 256
	finLinger  = int64(time.Second / time.Millisecond)
)

func (t *table) ingressInterface() uint32 { return uint32(t.port.Load().Index + 1) }

// meter counts packets that came now.
func (t *table) meter(packets []packet, now int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	last := -1 // index of the flow of the packet before, which often is the same
	for i := range packets {
		p := &packets[i]
		if last < 0 || t.flows[last].key != p.key {
			if at, ok := t.where[p.key]; ok {
				last = int(at)
			} else if last = t.add(p, now); last < 0 {
				continue
			}
		}
		t.flows[last].add(p, now)
	}
}

// add makes the flow of p, without counting p, and returns its index. It returns -1 when the
// port can have no flow, and then p has been reported.
func (t *table) add(p *packet, now int64) int {
	f := flow{key: p.key, macs: p.macs, first: now}
	at := len(t.flows)
	switch {
	case at < t.exporter.config.MaxPortFlows && t.exporter.reserve():
		if t.where == nil {
			t.where = make(map[key]uint32)
		}
		t.flows = append(t.flows, f)
	case at > 0:
		at = t.victim()
		delete(t.where, t.flows[at].key)
		t.report(&t.flows[at])
		t.flows[at] = f
	default:
		f.add(p, now)
		t.report(&f)
		return -1
	}
	t.where[p.key] = uint32(at)
	return at
}

// report queues a flow for which there is no room.
func (t *table) report(f *flow) {
	t.exporter.early.push(record{*f, t.ingressInterface(), lackOfResources})
}

// victim returns the index of the oldest of some flows.
func (t *table) victim() int {
	oldest := t.hand % len(t.flows)
	for i := range candidates {
		if at := (t.hand + i) % len(t.flows); t.flows[at].last < t.flows[oldest].last {
			oldest = at
		}
	}
	t.hand = (t.hand + candidates) % len(t.flows)
	return oldest
}

// sweep looks at some flows from index at on, removes those that are to be reported and appends their
// records. It returns where to go on, -1 behind the last. all removes every flow: the port has gone.
func (t *table) sweep(at int, now int64, all bool, records []record) ([]record, int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for range sweepFlows {
		if at >= len(t.flows) {
			if len(t.flows) == 0 {
				t.flows, t.where = nil, nil // a port that is silent holds no memory
			}
			return records, -1
		}
		f := &t.flows[at]
		reason := forcedEnd
		if !all {
			if reason = t.exporter.due(f, now); reason == 0 {
				at++
				continue
			}
		}
		records = append(records, record{*f, t.ingressInterface(), reason})
		t.remove(at)
	}
	return records, at
}

// remove moves the last flow to index at.
func (t *table) remove(at int) {
	delete(t.where, t.flows[at].key)
	last := len(t.flows) - 1
	if at != last {
		t.flows[at] = t.flows[last]
		t.where[t.flows[at].key] = uint32(at)
	}
	t.flows = t.flows[:last]
	t.exporter.flows.Add(-1)
}

// due returns why f is to be reported now, 0 if it is not.
func (e *Exporter) due(f *flow, now int64) endReason {
	switch idle := now - f.last; {
	case f.tcp&(tcpFIN|tcpRST) != 0 && idle >= finLinger:
		return endDetected
	case idle >= e.config.IdleTimeout.Milliseconds():
		return idleTimeout
	case now-f.first >= e.config.ActiveTimeout.Milliseconds():
		return activeTimeout
	}
	return 0
}

// reserve asks for room for one flow among those of all ports.
func (e *Exporter) reserve() bool {
	if e.flows.Add(1) > int64(e.config.MaxFlows) {
		e.flows.Add(-1)
		return false
	}
	return true
}
