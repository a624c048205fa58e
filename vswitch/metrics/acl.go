package metrics

import (
	"github.com/hvswitch/hvswitch/vswitch"
	"github.com/hvswitch/hvswitch/vswitch/acl"
)

type aclFamilies struct {
	connections, connectionLimit       family
	created, expired, evicted, refused family
	datagramsEvicted                   family
	meterFrames, meterBytes            family
}

func newACLFamilies(c *catalog) aclFamilies {
	labels := []string{labelPort, labelSwitch}
	meter := []string{labelAddress, labelDirection, labelPort, labelRule, labelSide, labelSwitch}
	return aclFamilies{
		connections:      c.gauge("acl_connections", "Connections that the ACL of the vNIC tracks.", labels...),
		connectionLimit:  c.gauge("acl_connections_limit", "Connections that the ACL of the vNIC tracks at most.", labels...),
		created:          c.counter("acl_connections_created", "Connections that began.", labels...),
		expired:          c.counter("acl_connections_expired", "Connections forgotten when idle, or because no rule is stateful any more.", labels...),
		evicted:          c.counter("acl_connections_evicted", "Connections forgotten to make room.", labels...),
		refused:          c.counter("acl_connections_refused", "Connections denied for want of room.", labels...),
		datagramsEvicted: c.counter("acl_datagrams_evicted", "Fragmented datagrams forgotten to make room.", labels...),
		meterFrames:      c.counter("acl_meter_frames", "Frames that passed at the meter.", meter...),
		meterBytes:       c.counter("acl_meter_bytes", "Bytes of the frames that passed at the meter, without FCS.", meter...),
	}
}

func (s *scrape) acl(v *vswitch.VNIC, p *acl.Policy, port []*label) {
	f, st, rules := &s.aclFamilies, v.Connections(), s.rulesOf(p)
	s.send(f.connections, float64(st.Connections), port)
	s.send(f.connectionLimit, float64(rules.connections), port)
	s.send(f.created, float64(st.Created), port)
	s.send(f.expired, float64(st.Expired), port)
	s.send(f.evicted, float64(st.Evicted), port)
	s.send(f.refused, float64(st.Refused), port)
	s.send(f.datagramsEvicted, float64(st.DatagramsEvicted), port)
	if len(rules.meters) != 0 {
		s.meters(v, p, rules, port)
	}
}
