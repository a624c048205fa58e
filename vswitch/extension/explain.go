package extension

// Explainer is implemented by filters, forwarding and firewalls that can say what they would do with a frame
// which is not really under way.
type Explainer interface {
	// Explain does with the frames what Filter or Forward would, and remembers nothing. A firewall drops those
	// whose connection it would deny.
	Explain(b *Batch)
}

// Answer is what one extension would do.
type Answer struct {
	Name    string // of its Binding
	Kind    Kind
	Unknown bool // it is no Explainer, or has failed
}

// ExplainIngress does what Ingress does for frames that are not really under way.
func (g *Program) ExplainIngress(b *Batch) []Answer { return g.explain(g.ingress, b) }

// ExplainForward does what Forward does for frames that are not really under way.
func (g *Program) ExplainForward(b *Batch) []Answer { return g.explain(g.forward, b) }

// ExplainEgress does what Egress does for frames that are not really under way.
func (g *Program) ExplainEgress(b *Batch) []Answer { return g.explain(g.egress, b) }

func (g *Program) explain(steps []step, b *Batch) (answers []Answer) {
	for _, st := range steps {
		if b.alive == 0 {
			break
		}
		if st.kind == KindCapture {
			continue // alters nothing
		}
		a := Answer{Name: st.name, Kind: st.kind}
		before := b.alive
		b.kind, b.state = st.kind, st.state
		x, ok := st.Extension.(Explainer)
		switch {
		case st.failure.Load() != nil:
			st.closed(b)
		case st.kind == KindFirewall && st.said(b):
		case ok:
			b.kind |= KindFilter // it may drop
			st.run = x.Explain
			a.Unknown = !st.call(b)
		default:
			a.Unknown = true
		}
		for i := range b.frames {
			if before&^b.alive>>i&1 != 0 {
				b.droppers[i], b.kinds[i] = st.name, st.kind
			}
		}
		answers = append(answers, a)
	}
	b.kind, b.state = 0, nil
	return answers
}

// said drops the frame if its connection has been denied, and reports whether the firewall has said so or
// allowed it.
func (st *step) said(b *Batch) bool {
	f, ok, malformed := b.flow(0)
	if malformed {
		b.drop(0, malformedReason)
	}
	if !ok {
		return true // it is not asked
	}
	allowed, known := st.flows.peek(b.keyOf(0, f), st.epoch.Load())
	if known && !allowed {
		b.drop(0, deniedReason)
	}
	return known
}
