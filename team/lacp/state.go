package lacp

import "strings"

// State is the state of an actor or a partner as it goes over the wire (6.4.2.3).
type State uint8

// Bits of State.
const (
	Activity        State = 1 << iota // sends LACPDUs by itself; else only to who does
	ShortTimeout                      // wants one LACPDU a second; else one in 30 s
	Aggregation                       // may be aggregated; else an individual link
	Synchronization                   // attached to the right aggregator
	Collecting                        // takes frames
	Distributing                      // sends frames
	Defaulted                         // knows its partner by default only
	Expired                           // has not heard of its partner for too long
)

var stateNames = [8]string{"active", "short", "aggregatable", "in sync", "collecting", "distributing", "defaulted", "expired"}

// String lists the bits that are set.
func (s State) String() string {
	var set []string
	for i, name := range stateNames {
		if s>>i&1 != 0 {
			set = append(set, name)
		}
	}
	return strings.Join(set, " ")
}

// Has reports whether all bits of want are set.
func (s State) Has(want State) bool { return s&want == want }

func (s *State) put(bits State, on bool) {
	if on {
		*s |= bits
	} else {
		*s &^= bits
	}
}
