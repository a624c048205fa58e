package overlay

import (
	"fmt"
	"time"

	"github.com/hvswitch/hvswitch/ports"
)

// Explanation is what an engine would do with a frame at the moment at which it was asked.
type Explanation struct {
	Steps   []string // in their order, such as "record 10.0.0.5: MAC 02:00:00:00:00:05 on host 192.0.2.1, by NVGRE"
	Outputs []Output // all of Source 0
}

// ExplainOutbound returns what Worker.Outbound would do with a frame, by running the same code, with
// nothing learned and nobody asked: questions for next hops are not among the outputs. The frame is
// changed as by Outbound.
func (e *Engine) ExplainOutbound(now time.Duration, p *Port, f *ports.Frame) Explanation {
	w := &Worker{view: view{e: e}, notes: new([]string)}
	out := w.Outbound(now, p, []*ports.Frame{f})
	return Explanation{*w.notes, out}
}

// ExplainInbound is ExplainOutbound for Worker.Inbound.
func (e *Engine) ExplainInbound(now time.Duration, f *ports.Frame) Explanation {
	w := &Worker{view: view{e: e}, notes: new([]string)}
	out := w.Inbound(now, []*ports.Frame{f})
	return Explanation{*w.notes, out}
}

// note adds a step to the explanation. It is called only if notes is not nil, so that nothing is
// allocated for frames that are under way.
func (w *Worker) note(format string, args ...any) {
	*w.notes = append(*w.notes, fmt.Sprintf(format, args...))
}

// noteRecord says which record a frame goes by.
func (w *Worker) noteRecord(what string, n *entry) {
	if n == nil {
		w.note("%s: no record", what)
		return
	}
	r := w.snap.record(n)
	name := r.CA.String()
	if r.Type == L2Only {
		name = r.MAC.String()
	}
	if n.typ() != Static {
		name += " (" + r.Type.String() + ")"
	}
	w.note("%s: record %s: MAC %s on host %s, by %s", what, name, r.MAC, r.PA, r.Rule)
}

// noteRoute says which way a packet for a takes.
func (w *Worker) noteRoute(a ca, v via, found bool) {
	switch {
	case !found:
		w.note("router: no route to %s", addrOf(a))
	case v.onLink:
		w.note("router: %s is on-link in VSID %s", addrOf(a), v.vsid)
	default:
		w.note("router: %s by gateway %s in VSID %s", addrOf(a), addrOf(v.hop), v.vsid)
	}
}

// take is limiter.take, without a trace of an explanation.
func (w *Worker) take(l *limiter) bool {
	if w.notes != nil {
		return l.next(w.now)-int64(w.now) <= errorBurst
	}
	return l.take(w.now)
}

// peekLearn reports whether learn would accept an address.
func (e *Engine) peekLearn(vsid VSID, a ca, mac uint64, t uint16) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	old := e.snap.Load().learned.lookupCA(vsid, a)
	if old != nil && (old.mac^mac)>>16 == 0 {
		return true
	}
	return (old == nil || old.seen() != t) && e.w.learned[learner{vsid, mac}] < maxLearned
}
