package metrics

import "github.com/hvswitch/hvswitch/vswitch"

type switchFamilies struct {
	ports                                 family
	flooded, floodedUnknown               family
	addresses, addressLimit               family
	learned, moved, damped, evicted, aged family
}

func newSwitchFamilies(c *catalog) switchFamilies {
	return switchFamilies{
		ports:          c.gauge("switch_ports", "Connected ports of the switch.", labelSwitch),
		flooded:        c.counter("switch_flooded_frames", "Frames sent to every member of their VLAN.", labelSwitch),
		floodedUnknown: c.counter("switch_flooded_unknown_frames", "Frames flooded because their destination, one station, was not known.", labelSwitch),
		addresses:      c.gauge("switch_addresses", "Addresses in the forwarding database, learned and static.", labelSwitch),
		addressLimit:   c.gauge("switch_learned_addresses_limit", "Addresses that the switch learns at most; static ones do not count.", labelSwitch),
		learned:        c.counter("switch_addresses_learned", "Addresses learned.", labelSwitch),
		moved:          c.counter("switch_addresses_moved", "Times that a learned address came to another port.", labelSwitch),
		damped:         c.counter("switch_address_moves_damped", "Moves not followed, because the station moved too often.", labelSwitch),
		evicted:        c.counter("switch_addresses_evicted", "Learned addresses that made room for others.", labelSwitch),
		aged:           c.counter("switch_addresses_aged", "Learned addresses forgotten because not seen for the ageing time.", labelSwitch),
	}
}

func (s *scrape) switchOf(sw *vswitch.Switch) {
	f, st := &s.switchFamilies, sw.Stats()
	name := s.switchLabel(sw.Name())
	labels := s.labels(s.hostLabel, name)
	s.send(f.ports, float64(len(st.Ports)), labels)
	s.send(f.flooded, float64(st.Flooded), labels)
	s.send(f.floodedUnknown, float64(st.FloodedUnknown), labels)
	s.send(f.addresses, float64(st.Addresses), labels)
	s.send(f.addressLimit, float64(sw.Config().MaxAddresses), labels)
	s.send(f.learned, float64(st.Learned), labels)
	s.send(f.moved, float64(st.Moved), labels)
	s.send(f.damped, float64(st.Damped), labels)
	s.send(f.evicted, float64(st.Evicted), labels)
	s.send(f.aged, float64(st.Aged), labels)
	for _, e := range sw.Extensions() {
		s.extension(e, name)
	}
	for _, c := range sw.Classes() {
		s.class(c, name)
	}
}
