package metrics

import "github.com/hvswitch/hvswitch/ports"

type hostFamilies struct {
	poolSize, poolUsed family
}

func newHostFamilies(c *catalog) hostFamilies {
	return hostFamilies{
		poolSize: c.gauge("host_mac_pool_addresses", "Addresses in the range from which vNICs get their dynamic MAC addresses."),
		poolUsed: c.gauge("host_mac_pool_used_addresses", "Addresses of that range which vNICs have."),
	}
}

// macPool comes after allPorts, which counts the addresses in use.
func (s *scrape) macPool() {
	r := s.host.MACPool()
	labels := s.labels(s.hostLabel)
	s.send(s.hostFamilies.poolSize, macNumber(r.Last)-macNumber(r.First)+1, labels)
	s.send(s.hostFamilies.poolUsed, float64(s.poolUsed), labels)
}

func macNumber(m ports.MAC) (n float64) {
	for _, b := range m {
		n = n*256 + float64(b)
	}
	return n
}
