package overlay

import (
	"errors"
	"fmt"
)

// ConfigError says what about a configuration is not valid.
type ConfigError struct {
	Object string // such as "lookup record 10.0.0.5 in VSID 5001"
	Field  string // such as "PA"
	Value  string // as it was given; empty when it is missing
	Reason string
}

// Error returns all of it, such as
// "lookup record 10.0.0.5 in VSID 5001: PA 0.0.0.0 is no unicast address".
func (e *ConfigError) Error() string {
	if e.Value == "" {
		return fmt.Sprintf("%s: %s %s", e.Object, e.Field, e.Reason)
	}
	return fmt.Sprintf("%s: %s %s %s", e.Object, e.Field, e.Value, e.Reason)
}

// Errors of encapsulation.
var (
	// ErrVSID says that the VSID is reserved (RFC 7637, section 3.4).
	ErrVSID = errors.New("VSID is reserved")

	// ErrTagged says that a VLAN tag stands behind another: removing both would mix two networks.
	ErrTagged = errors.New("frame has more than one VLAN tag")

	// ErrTooLong says that the outer IP packet would be longer than 65,535 bytes.
	ErrTooLong = errors.New("frame is too long to be encapsulated as a whole")

	// ErrHeadroom says that the head has no room for the outer headers, or is shorter than an
	// Ethernet header.
	ErrHeadroom = errors.New("frame has no headroom or no Ethernet header")

	// ErrUnfinished says that the outer UDP checksum cannot be computed over a frame that asks for
	// segmentation.
	ErrUnfinished = errors.New("frame asks for segmentation, and the outer checksum is to cover it")
)
