package overlay

import (
	"encoding/hex"
	"fmt"
	"strings"
)

// RDID is a routing domain identifier: the GUID of a virtual network. Subnets of one routing domain are
// routed to each other, nothing crosses to another. The zero RDID is none.
type RDID [16]byte

// ParseRDID reads a GUID, with or without braces, such as {11111111-2222-3333-4444-000000000000}.
func ParseRDID(s string) (RDID, error) {
	var id RDID
	g := strings.TrimSuffix(strings.TrimPrefix(s, "{"), "}")
	ok := len(g) == 36 && g[8] == '-' && g[13] == '-' && g[18] == '-' && g[23] == '-'
	if ok {
		_, err := hex.Decode(id[:], []byte(g[:8]+g[9:13]+g[14:18]+g[19:23]+g[24:]))
		ok = err == nil
	}
	if !ok {
		return RDID{}, fmt.Errorf("routing domain %.40q is no GUID", s)
	}
	return id, nil
}

// IsZero reports whether id is the zero RDID.
func (id RDID) IsZero() bool { return id == RDID{} }

// String returns the GUID in lower case with braces.
func (id RDID) String() string {
	return fmt.Sprintf("{%x-%x-%x-%x-%x}", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
}

// MarshalText returns what String returns.
func (id RDID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads what ParseRDID reads.
func (id *RDID) UnmarshalText(b []byte) error {
	v, err := ParseRDID(string(b))
	if err != nil {
		return err
	}
	*id = v
	return nil
}
