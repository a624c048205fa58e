package lacp

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/hvswitch/hvswitch/ports"
)

// Marker is a Marker or Marker Response PDU (6.5.3.3). Who has received the response to a marker knows
// that all frames it sent before on that link have been received too.
type Marker struct {
	Response    bool
	Port        uint16 // of who sent the marker, as are all fields
	System      ports.MAC
	Transaction uint32
}

const (
	tlvMarker         = 1
	tlvMarkerResponse = 2
	markerLen         = 16
)

// ParseMarker decodes a Marker PDU from its subtype on.
func ParseMarker(b []byte) (Marker, error) {
	if len(b) < 2+markerLen {
		return Marker{}, fmt.Errorf("Marker PDU: %w", ErrShort)
	}
	if b[0] != subtypeMarker {
		return Marker{}, fmt.Errorf("Marker PDU: subtype %d: %w", b[0], ErrSubtype)
	}
	kind := b[2]
	if kind != tlvMarker && kind != tlvMarkerResponse || b[3] != markerLen {
		return Marker{}, fmt.Errorf("Marker PDU: %w", ErrTLV)
	}
	return Marker{
		Response:    kind == tlvMarkerResponse,
		Port:        binary.BigEndian.Uint16(b[4:]),
		System:      ports.MAC(b[6:12]),
		Transaction: binary.BigEndian.Uint32(b[12:]),
	}, nil
}

// Append appends the PDU, PDULen bytes from its subtype on, and returns the extended slice.
func (m *Marker) Append(b []byte) []byte {
	end := len(b) + PDULen
	kind := byte(tlvMarker)
	if m.Response {
		kind = tlvMarkerResponse
	}
	b = append(b, subtypeMarker, version, kind, markerLen)
	b = binary.BigEndian.AppendUint16(b, m.Port)
	b = append(b, m.System[:]...)
	b = binary.BigEndian.AppendUint32(b, m.Transaction)
	return append(b, make([]byte, end-len(b))...)
}

// maxMarkers is how many markers are answered at once; who sends more without waiting gets no answer to
// some of them.
const maxMarkers = 4

// receiveMarker is the marker responder (6.5.4.2).
func (p *Port) receiveMarker(now time.Duration, b []byte) {
	m, err := ParseMarker(b)
	switch {
	case err != nil:
		p.count.Malformed++
	case m.Response: // no markers are sent, so there is nothing to wait for
		p.count.Ignored++
	case len(p.answers) == maxMarkers:
		p.count.Limited++
	default:
		m.Response = true
		p.answers = append(p.answers, m)
		p.count.Markers++
	}
}
