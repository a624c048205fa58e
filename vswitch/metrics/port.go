package metrics

import (
	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vswitch"
)

type portFamilies struct {
	connected          family
	linkUp, linkSpeed  family
	rxQueues, txQueues family
	mtu                family
	rxFrames, rxBytes  family
	txFrames, txBytes  family
	dropped            family
	learnedLimit       family
	ipLimit, stormRate family
	maximum, paused    family
}

func newPortFamilies(c *catalog) portFamilies {
	labels := []string{labelPort, labelSwitch}
	return portFamilies{
		connected:    c.gauge("port_connected", "1 if the vNIC is a port of the switch that it names, or the NIC an uplink.", labels...),
		linkUp:       c.gauge("port_link_up", "1 if the link is up: of a vNIC, if its guest listens.", labels...),
		linkSpeed:    c.gauge("port_link_speed_bytes_per_second", "Speed of the link, where it is known.", labels...),
		rxQueues:     c.gauge("port_receive_queues", "Queues from which the switch receives.", labels...),
		txQueues:     c.gauge("port_transmit_queues", "Queues to which the switch sends.", labels...),
		mtu:          c.gauge("port_mtu_bytes", "Longest payload of a frame behind its Ethernet header and tag.", labels...),
		rxFrames:     c.counter("port_receive_frames", "Frames that the switch received from the port.", labels...),
		rxBytes:      c.counter("port_receive_bytes", "Bytes of the frames that the switch received from the port, without FCS.", labels...),
		txFrames:     c.counter("port_transmit_frames", "Frames that the switch sent to the port.", labels...),
		txBytes:      c.counter("port_transmit_bytes", "Bytes of the frames that the switch sent to the port, without FCS.", labels...),
		dropped:      c.counter("port_dropped_frames", "Frames dropped, by reason, at the port that they came from or did not reach.", labelPort, labelReason, labelSwitch),
		learnedLimit: c.gauge("port_learned_addresses_limit", "MAC addresses learned at most at the vNIC, which may use others than its own.", labels...),
		ipLimit:      c.gauge("port_ip_addresses_limit", "IP addresses that the guest may use at most beside those assigned to the vNIC.", labels...),
		maximum:      c.gauge("port_maximum_bandwidth_bytes_per_second", "What the vNIC sends at most, as it takes of a wire.", labels...),
		paused:       c.counter("port_pauses", "Times that a queue of the vNIC has waited for its maximum bandwidth.", labels...),
		stormRate:    c.gauge("port_storm_limit_frames_per_second", "Frames that the guest may have flooded in a second.", labels...),
	}
}

// allPorts exports the NICs and vNICs. Their names differ, but one may go and leave its name to
// another while it looks.
func (s *scrape) allPorts() {
	taken := map[string]bool{}
	for _, n := range s.host.NICs() {
		taken[n.Name()] = true
		s.nic(n)
	}
	for _, v := range s.host.VNICs() {
		if !taken[v.Name()] {
			s.vnic(v)
		}
	}
}

func (s *scrape) nic(n *vswitch.NIC) {
	f, sw := &s.portFamilies, n.Switch()
	var name string
	if sw != nil {
		name = sw.Name()
	}
	labels := s.labels(s.hostLabel, pair(labelPort, n.Name()), s.switchLabel(name))
	s.sendBool(f.connected, sw != nil, labels)
	s.link(n.Link(), labels)
	s.info(n.Info(), labels)
	s.traffic(n.Stats(), labels)
}

func (s *scrape) link(l ports.Link, labels []*label) {
	s.sendBool(s.portFamilies.linkUp, l.Up, labels)
	if l.Speed != 0 {
		s.send(s.portFamilies.linkSpeed, float64(l.Speed)/8, labels)
	}
}

func (s *scrape) info(i ports.Info, labels []*label) {
	s.send(s.portFamilies.rxQueues, float64(i.RxQueues), labels)
	s.send(s.portFamilies.txQueues, float64(i.TxQueues), labels)
	s.send(s.portFamilies.mtu, float64(i.MTU), labels)
}

func (s *scrape) vnic(v *vswitch.VNIC) {
	f, cfg := &s.portFamilies, v.Config()
	labels := s.labels(s.hostLabel, pair(labelPort, v.Name()), s.switchLabel(cfg.Switch))
	s.sendBool(f.connected, v.Connected(), labels)
	s.link(v.Link(), labels)
	s.info(v.Info(), labels)
	st := v.Stats()
	s.traffic(st, labels)
	if cfg.Bandwidth.MaxRate != 0 {
		s.send(f.maximum, float64(cfg.Bandwidth.MaxRate)/8, labels)
		s.send(f.paused, float64(st.Paused), labels)
	}
	if cfg.AllowSpoofing {
		s.send(f.learnedLimit, float64(cfg.MaxAddresses), labels)
	}
	if cfg.MaxDynamicAddresses != 0 {
		s.send(f.ipLimit, float64(cfg.MaxDynamicAddresses), labels)
	}
	if cfg.StormLimit != 0 {
		s.send(f.stormRate, float64(cfg.StormLimit), labels)
	}
	if cfg.ACL != nil {
		s.acl(v, cfg.ACL, labels)
	}
	if cfg.MAC.IsZero() {
		s.poolUsed++
	}
}

func (s *scrape) traffic(st vswitch.PortStats, labels []*label) {
	f := &s.portFamilies
	s.send(f.rxFrames, float64(st.RxFrames), labels)
	s.send(f.rxBytes, float64(st.RxBytes), labels)
	s.send(f.txFrames, float64(st.TxFrames), labels)
	s.send(f.txBytes, float64(st.TxBytes), labels)
	s.drops(st.Drops, labels)
}
