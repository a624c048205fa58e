// Package overlay is network virtualization: virtual networks of tenants, who may all use the same
// addresses, over one provider network.
//
// An Engine holds the policy of one host: virtual subnets, lookup records and customer routes. Its Workers
// are the data path: Outbound takes what a vNIC sends, Inbound what comes from the provider network, and
// each says where every frame goes. They do no I/O, know no clock and start no goroutine:
//
//	engine, err := overlay.NewEngine(&overlay.Config{Addresses: []overlay.ProviderAddress{{…}}})
//	err = engine.Apply(changes)                    // or a store.Follower does
//	port, err := engine.AddPort(overlay.PortConfig{VSID: 5001, MAC: mac})
//	worker := engine.NewWorker()
//	for _, out := range worker.Outbound(now, port, frames) {
//		// to out.Port, to the provider network, or dropped for the reason out.Drop
//	}
//
// Package vswitch makes an engine a part of a switch. Where there is none, an Underlay does the I/O: it has the
// device to the provider network and gives each vNIC as a ports.Backend. Engine.ExplainOutbound, Engine.NextHop
// and Ping answer the questions of operators.
//
// The codecs are usable alone: Tunnel and Decoder for NVGRE (RFC 7637), VXLAN (RFC 7348) and Geneve
// (RFC 8926), Splitter for large segments. Package store distributes policy to hosts.
//
// # Terms
//
// A customer address (CA) is one that a VM has, a provider address (PA) one that a host has. A virtual
// network is a routing domain (RDID) of virtual subnets (VSID). A lookup record says on which host a CA
// is. They are those of Hyper-V network virtualization.
//
// # The distributed router
//
// The first address of every prefix of a subnet is that of a router, which each host is for its own VMs.
// It answers ARP, Neighbor Discovery and ICMP echo, and forwards between the subnets of a virtual network
// in one step: a routed packet crosses the provider network in the receiver's subnet, from the router's
// MAC address to the receiver's. ARP requests and neighbor solicitations for VMs are answered from the
// records and go nowhere. Where the way is too narrow the sender is told by ICMP or, if it allows that,
// its packet is fragmented inside; outer packets never are.
//
// In a subnet with Learning, VMs choose their customer addresses themselves, by DHCP or as clusters do.
// Hosts learn them from what the VMs send, each VM's from its own host only, and a router asks for what it
// has not learned.
//
// # What isolates
//
// A frame of a vNIC is in the subnet of its port, whatever it says. It passes if the records, or what has
// been learned, have its MAC address and its CA. On the receiving host it passes if it comes from the PA
// of the record of its sender; a routed one, if the way back to its source leads to that PA. A route
// leads only to subnets of its own routing domain. So who controls a VM speaks for that VM alone, and who
// controls a host, or forges its PA, for the VMs on that host.
//
// A host that gets a frame for a VM that has moved tells the sender where it is, or that it is unknown there.
// It is obeyed by hosts whose records say that the VM is on it, for that VM alone and until the policy says
// more; see Config.NoRedirects.
//
// Whoever can forge the PA of a host in the provider network is that host: that network must see to it
// that nobody can (RFC 7637, section 5).
package overlay
