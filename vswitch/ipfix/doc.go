// Package ipfix exports flows of a switch in IPFIX (RFC 7011). An Exporter is a capture extension:
//
//	collector, err := net.Dial("udp", "192.0.2.10:4739")
//	exporter, err := ipfix.New(&ipfix.Config{Collectors: []io.Writer{collector}})
//	binding := extension.Binding{Name: "ipfix", Extension: exporter}
//
// It meters what comes into the switch by a port, before anything else has looked at it, so a frame that the
// switch drops is metered too and one that it floods is metered once. Frames that an extension has injected
// came by no port and are not metered. A frame that asks for segmentation is one packet.
//
// # Flows
//
// A flow is what packets have in common that come by one port with the same outermost VLAN identifier:
//
//   - of IPv4 and IPv6: addresses, protocol, and the ports of TCP, UDP and SCTP or type and code of ICMP. A
//     packet whose headers are malformed, and a fragment that is not the first, has no ports: they are 0.
//   - of everything else: MAC addresses and EtherType.
//
// A flow is reported, and forgotten, when it has been idle for Config.IdleTimeout, for a second already if
// it had a TCP FIN or RST, when it has lasted for Config.ActiveTimeout, when its port is disconnected, and
// early when it makes room for others. Timeouts are looked for each second. No packet is reported twice,
// and none is missing but those that Stats.LostPackets counts.
//
// # Records
//
// Information elements (IANA registry "IPFIX Entities") of each record:
//
//   - ingressInterface is extension.Port.Index + 1. Its interfaceName is sent in an option (RFC 7011,
//     section 3.4.2.2).
//   - vlanId is that of the outermost tag; 0 without one.
//   - sourceMacAddress and destinationMacAddress are those of the first packet.
//   - packetDeltaCount, flowStartMilliseconds, flowEndMilliseconds, flowEndReason.
//   - IP: addresses, protocolIdentifier, sourceTransportPort, destinationTransportPort, tcpControlBits,
//     icmpTypeCodeIPv4 or icmpTypeCodeIPv6, and octetDeltaCount, which counts from the IP header to the end
//     of the IP packet.
//   - Others: ethernetType and layer2OctetDeltaCount, which counts the frame without its FCS and without a
//     tag beside its bytes.
//
// Messages are at most 1,400 bytes long, for UDP. Templates and options are repeated, as section 8.1 asks.
package ipfix
