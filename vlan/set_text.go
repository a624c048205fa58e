package vlan

import (
	"encoding"
	"fmt"
	"strconv"
	"strings"
)

var (
	_ fmt.Stringer             = Set{}
	_ encoding.TextMarshaler   = Set{}
	_ encoding.TextUnmarshaler = &Set{}
)

// ParseSet reads ids and ranges of ids with commas between them, such as 2-4,10, in any order. The
// empty string is the empty set, and 1-4094 is all there are. It is strict: no blanks, signs or leading
// zeros, no range that goes backwards, no id twice. The error says what is wrong, and where.
func ParseSet(list string) (Set, error) {
	var s Set
	if list == "" {
		return s, nil
	}
	at := 1
	for item := range strings.SplitSeq(list, ",") {
		if err := s.addItem(item); err != nil {
			return Set{}, fmt.Errorf("VLAN list: %.40q at character %d: %w", item, at, err)
		}
		at += len(item) + len(",")
	}
	return s, nil
}

// MustParseSet is ParseSet for lists that are known to be right; it panics on others.
func MustParseSet(list string) Set {
	s, err := ParseSet(list)
	if err != nil {
		panic(err)
	}
	return s
}

// addItem adds an id or a range.
func (s *Set) addItem(item string) error {
	from, to, isRange := strings.Cut(item, "-")
	first, err := parseID(from)
	if err != nil {
		return err
	}
	last := first
	if isRange {
		if last, err = parseID(to); err != nil {
			return err
		}
	}
	if last < first {
		return errBackwards(first, last)
	}
	for id := first; id <= last; id++ {
		if s.has(id) {
			return fmt.Errorf("VLAN %d is in the list already", id)
		}
	}
	return s.AddRange(first, last)
}

func parseID(digits string) (uint16, error) {
	if digits == "" {
		return 0, fmt.Errorf("a VLAN id is missing")
	}
	for _, c := range []byte(digits) {
		if c < '0' || c > '9' {
			return 0, fmt.Errorf("%.20q is not a VLAN id", digits)
		}
	}
	if digits[0] == '0' && len(digits) > 1 {
		return 0, fmt.Errorf("%.20q begins with a zero", digits)
	}
	n, err := strconv.ParseUint(digits, 10, 16)
	if err != nil {
		return 0, fmt.Errorf("VLAN %.20s %s", digits, outOfRange)
	}
	return uint16(n), CheckID(uint16(n))
}

func errBackwards(first, last uint16) error {
	return fmt.Errorf("the range %d-%d goes backwards", first, last)
}

// String returns the ids in ascending order, neighbours as ranges, such as 2-4,10: what ParseSet
// reads. Equal sets have equal strings. The empty set is the empty string.
func (s Set) String() string {
	b, _ := s.MarshalText()
	return string(b)
}

// MarshalText returns what String returns.
func (s Set) MarshalText() ([]byte, error) {
	b := []byte{}
	for id := uint16(MinID); id <= MaxID; id++ {
		if !s.has(id) {
			continue
		}
		if len(b) > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendUint(b, uint64(id), 10)
		first := id
		for s.Has(id + 1) {
			id++
		}
		if id > first {
			b = append(b, '-')
			b = strconv.AppendUint(b, uint64(id), 10)
		}
	}
	return b, nil
}

// UnmarshalText reads what ParseSet reads. On error the set is unchanged.
func (s *Set) UnmarshalText(b []byte) error {
	v, err := ParseSet(string(b))
	if err != nil {
		return err
	}
	*s = v
	return nil
}
