package ipfix

import "encoding/binary"

// Set and template identifiers (RFC 7011, section 3.3.2). Those of data sets are ours.
const (
	templateSet        = 2
	optionsTemplateSet = 3

	namesTemplate  = 256
	layer2Template = 257
	ipv4Template   = 258
	ipv6Template   = 259
)

// element is a field of a template (RFC 7011, section 3.2).
type element struct{ id, length uint16 }

const variable = 65535 // as length of an element, section 7

// Information elements of the IANA registry.
var (
	octetDeltaCount          = element{1, 8}
	packetDeltaCount         = element{2, 8}
	protocolIdentifier       = element{4, 1}
	tcpControlBits           = element{6, 2}
	sourceTransportPort      = element{7, 2}
	sourceIPv4Address        = element{8, 4}
	ingressInterface         = element{10, 4}
	destinationTransportPort = element{11, 2}
	destinationIPv4Address   = element{12, 4}
	sourceIPv6Address        = element{27, 16}
	destinationIPv6Address   = element{28, 16}
	icmpTypeCodeIPv4         = element{32, 2}
	sourceMacAddress         = element{56, 6}
	vlanID                   = element{58, 2}
	destinationMacAddress    = element{80, 6}
	interfaceName            = element{82, variable}
	flowEndReason            = element{136, 1}
	icmpTypeCodeIPv6         = element{139, 2}
	flowStartMilliseconds    = element{152, 8}
	flowEndMilliseconds      = element{153, 8}
	ethernetType             = element{256, 2}
	layer2OctetDeltaCount    = element{352, 8}
)

// template is the form of the records of a data set.
type template struct {
	id     uint16
	fields []element
	length int // of a record
}

// every returns the template with the fields that all flows have, and then its own.
func every(id uint16, own ...element) template {
	t := template{id: id, fields: append([]element{
		ingressInterface, vlanID, sourceMacAddress, destinationMacAddress, flowStartMilliseconds,
		flowEndMilliseconds, packetDeltaCount, flowEndReason,
	}, own...)}
	for _, f := range t.fields {
		t.length += int(f.length)
	}
	return t
}

// templates are those of flows, by kind. Record encoding keeps to the order of their fields.
var templates = [...]template{
	layer2: every(layer2Template, layer2OctetDeltaCount, ethernetType),
	ipv4: every(ipv4Template, octetDeltaCount, sourceIPv4Address, destinationIPv4Address, protocolIdentifier,
		sourceTransportPort, destinationTransportPort, tcpControlBits, icmpTypeCodeIPv4),
	ipv6: every(ipv6Template, octetDeltaCount, sourceIPv6Address, destinationIPv6Address, protocolIdentifier,
		sourceTransportPort, destinationTransportPort, tcpControlBits, icmpTypeCodeIPv6),
}

// appendTo appends a template record (RFC 7011, section 3.4.1).
func (t *template) appendTo(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, t.id)
	b = binary.BigEndian.AppendUint16(b, uint16(len(t.fields)))
	return appendFields(b, t.fields...)
}

// appendNamesTemplate appends the options template record of interface names (RFC 7011, section
// 3.4.2.2), whose scope is the interface.
func appendNamesTemplate(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, namesTemplate)
	b = binary.BigEndian.AppendUint16(b, 2) // fields
	b = binary.BigEndian.AppendUint16(b, 1) // of them scope
	return appendFields(b, ingressInterface, interfaceName)
}

func appendFields(b []byte, fields ...element) []byte {
	for _, f := range fields {
		b = binary.BigEndian.AppendUint16(b, f.id)
		b = binary.BigEndian.AppendUint16(b, f.length)
	}
	return b
}
