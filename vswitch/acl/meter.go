package acl

// MeterReading is what has passed at a meter since the State first saw it. A meter goes on counting when
// another Policy has a meter for the same addresses and directions.
type MeterReading struct {
	Rule    int // index in Config.Basic
	Out, In Count
}

// Count is a number of frames and of their bytes, without FCS.
type Count struct{ Frames, Bytes uint64 }

// binding is a policy as one State applies it.
type binding struct {
	policy *Policy
	epoch  uint32    // differs from that of others in the State; not 0
	counts []*counts // of the meters of the policy
}

// counts is what a meter has counted, by direction.
type counts [2]Count

func (b *binding) count(meter int32, dir, bytes int) {
	if meter < 0 {
		return
	}
	c := &b.counts[meter][dir]
	c.Frames++
	c.Bytes += uint64(bytes)
}

// newBinding makes a binding in which meters go on from older ones.
func newBinding(p *Policy, epoch uint32, older ...*binding) *binding {
	b := &binding{policy: p, epoch: epoch}
	if len(p.meters) == 0 {
		return b
	}
	known := make(map[basicKey]*counts)
	for _, o := range older {
		if o == nil {
			continue
		}
		for i, c := range o.counts {
			r := &o.policy.cfg.Basic[o.policy.meters[i]]
			known[r.key(r.Direction)] = c
		}
	}
	for _, i := range p.meters {
		r := &p.cfg.Basic[i]
		k := r.key(r.Direction)
		if known[k] == nil {
			known[k] = new(counts)
		}
		b.counts = append(b.counts, known[k])
	}
	return b
}
