package metrics

import (
	"github.com/hvswitch/hvswitch/vswitch"
	"github.com/hvswitch/hvswitch/vswitch/acl"
)

// defaultConnections is what 0 means for acl.Config.Connections.
const defaultConnections = 1 << 16

// policyRules is what the series need of a policy. A policy gives its rules as a copy, which may be
// large, so this is kept from one scrape to the next.
type policyRules struct {
	connections int
	meters      map[int]meterLabels // by index in acl.Config.Basic
}

type meterLabels struct {
	address, rule, side *label
	direction           acl.Direction
}

func (s *scrape) rulesOf(p *acl.Policy) *policyRules {
	r := s.rules[p]
	if r == nil {
		if r = s.known[p]; r == nil {
			r = newPolicyRules(p)
		}
		s.rules[p] = r
	}
	return r
}

func newPolicyRules(p *acl.Policy) *policyRules {
	cfg := p.Config()
	r := &policyRules{connections: cfg.Connections, meters: map[int]meterLabels{}}
	if r.connections == 0 {
		r.connections = defaultConnections
	}
	for i := range cfg.Basic {
		b := &cfg.Basic[i]
		if b.Action != acl.Meter {
			continue
		}
		address := b.Any.String()
		if b.Any == 0 {
			address = b.Prefix.Masked().String()
		}
		r.meters[i] = meterLabels{
			address:   pair(labelAddress, address),
			rule:      pair(labelRule, b.Name),
			side:      pair(labelSide, b.Side.String()),
			direction: b.Direction,
		}
	}
	return r
}

var (
	labelOut = pair(labelDirection, acl.Out.String())
	labelIn  = pair(labelDirection, acl.In.String())
)

// meters exports the readings of the meters of a vNIC, unless it has got another policy meanwhile:
// then it is not known which rules the readings are of.
func (s *scrape) meters(v *vswitch.VNIC, p *acl.Policy, rules *policyRules, port []*label) {
	readings := v.Meters()
	if v.Config().ACL != p {
		return
	}
	for _, r := range readings {
		m := rules.meters[r.Rule]
		if m.direction&acl.Out != 0 {
			s.meter(m, labelOut, r.Out, port)
		}
		if m.direction&acl.In != 0 {
			s.meter(m, labelIn, r.In, port)
		}
	}
}

func (s *scrape) meter(m meterLabels, direction *label, n acl.Count, port []*label) {
	labels := s.labels(m.address, direction, port[0], port[1], m.rule, m.side, port[2])
	s.send(s.aclFamilies.meterFrames, float64(n.Frames), labels)
	s.send(s.aclFamilies.meterBytes, float64(n.Bytes), labels)
}
