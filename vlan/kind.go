package vlan

import (
	"encoding"
	"fmt"
	"strconv"
)

// Kind is one of the mutually exclusive modes of a port.
type Kind uint8

// Kinds of modes. The functions of the same names, such as Access, say what each does.
const (
	KindUntagged Kind = iota
	KindAccess
	KindTrunk
	KindIsolated
	KindCommunity
	KindPromiscuous
)

var kindNames = [...]string{
	KindUntagged:    "untagged",
	KindAccess:      "access",
	KindTrunk:       "trunk",
	KindIsolated:    "isolated",
	KindCommunity:   "community",
	KindPromiscuous: "promiscuous",
}

var (
	_ encoding.TextMarshaler   = Kind(0)
	_ encoding.TextUnmarshaler = new(Kind)
)

// String returns the name of the kind, such as "access".
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return "kind " + strconv.Itoa(int(k))
}

// MarshalText returns what String returns; a value that is no kind is an error.
func (k Kind) MarshalText() ([]byte, error) {
	if int(k) >= len(kindNames) {
		return nil, fmt.Errorf("port mode %d does not exist", k)
	}
	return []byte(k.String()), nil
}

// UnmarshalText reads what String returns. On error the kind is unchanged.
func (k *Kind) UnmarshalText(b []byte) error {
	for i, name := range kindNames {
		if name == string(b) {
			*k = Kind(i)
			return nil
		}
	}
	return fmt.Errorf("port mode %.20q does not exist", b)
}

// Private reports whether the kind is one of those of private VLANs.
func (k Kind) Private() bool {
	return k == KindIsolated || k == KindCommunity || k == KindPromiscuous
}
