package capture

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/hvswitch/hvswitch/internal/header"
	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vlan"
	"github.com/hvswitch/hvswitch/vswitch/extension"
)

// value is one of the values of a term.
type value struct {
	text   string
	quoted bool
}

// criterion is a field, or two, of a Filter in the text form: key=value,value.
type criterion struct {
	key   string
	parse func(f *Filter, v []value) error
	print func(f *Filter) []string
}

var criteria = []criterion{
	list("switch", func(f *Filter) *[]string { return &f.Switches }, anyText, quote),
	list("port", func(f *Filter) *[]string { return &f.Ports }, anyText, quote),
	list("direction", func(f *Filter) *[]extension.Direction { return &f.Directions }, parseDirection, extension.Direction.String),
	{"vlan", parseVLANs, printVLANs},
	list("mac", func(f *Filter) *[]ports.MAC { return &f.MACs }, ports.ParseMAC, ports.MAC.String),
	list("ethertype", func(f *Filter) *[]uint16 { return &f.EtherTypes }, parseEtherType, printEtherType),
	list("addr", func(f *Filter) *[]netip.Prefix { return &f.Prefixes }, parsePrefix, netip.Prefix.String),
	list("proto", func(f *Filter) *[]uint8 { return &f.Protocols }, parseProtocol, printProtocol),
	list("l4port", func(f *Filter) *[]uint16 { return &f.TransportPorts }, parseUint16, printUint16),
	{"drop", parseDrop, printDrop},
}

// ParseFilter reads the text form of a Filter: terms with blanks between them, each of which has one value
// or more, with commas and no blanks between.
//
//	port=web1,web2 vlan=10-20,untagged addr=10.0.0.0/24 proto=tcp l4port=443 drop=any
//
// The terms, each once at most and in any order, are
//
//	switch, port  names
//	direction     ingress, egress
//	vlan          1 to 4094 and ranges, untagged
//	mac           02:00:5e:10:00:01
//	ethertype     ipv4, ipv6, arp, 0x88cc, 35020
//	addr          an IP address or a prefix
//	proto         tcp, udp, icmp, icmpv6, sctp, 0 to 255
//	l4port        0 to 65535
//	drop          any, or what reasons begin with
//
// Values with other characters than letters, digits and . : / _ - are quoted as in Go, such as
// drop="spoofed source". The empty text is the zero Filter. Errors name the term.
func ParseFilter(text string) (Filter, error) {
	var f Filter
	seen := map[string]bool{}
	for {
		text = strings.TrimLeft(text, " \t")
		if text == "" {
			return f, nil
		}
		key, rest, ok := strings.Cut(text, "=")
		if !ok || strings.ContainsAny(key, " \t") {
			key, _, _ = strings.Cut(text, " ")
			return Filter{}, fmt.Errorf("term %q is not of the form key=value", key)
		}
		i := slices.IndexFunc(criteria, func(c criterion) bool { return c.key == key })
		if i < 0 {
			return Filter{}, fmt.Errorf("term %q: there is no such criterion", key)
		}
		if seen[key] {
			return Filter{}, fmt.Errorf("term %q: it is there twice; list the values with commas", key)
		}
		seen[key] = true
		values, rest, err := parseValues(rest)
		if err == nil {
			err = criteria[i].parse(&f, values)
		}
		if err != nil {
			return Filter{}, fmt.Errorf("term %q: %w", key, err)
		}
		text = rest
	}
}

// parseValues reads the values of a term and returns what follows it.
func parseValues(text string) (values []value, rest string, err error) {
	for {
		var v value
		if strings.HasPrefix(text, `"`) {
			q, err := strconv.QuotedPrefix(text)
			if err != nil {
				return nil, "", fmt.Errorf("quoted value %s does not end", text)
			}
			if v.text, err = strconv.Unquote(q); err != nil {
				return nil, "", fmt.Errorf("quoted value %s: %w", q, err)
			}
			v.quoted, text = true, text[len(q):]
		} else {
			n := strings.IndexFunc(text, func(r rune) bool { return !bare(r) })
			if n < 0 {
				n = len(text)
			}
			v.text, text = text[:n], text[n:]
		}
		if v.text == "" && !v.quoted {
			return nil, "", errors.New("a value is missing")
		}
		values = append(values, v)
		switch {
		case text == "" || text[0] == ' ' || text[0] == '\t':
			return values, text, nil
		case text[0] != ',':
			return nil, "", fmt.Errorf("%q is not to follow value %q", text[:1], v.text)
		}
		text = text[1:]
	}
}

// bare reports whether a character stands in a value without quotes.
func bare(r rune) bool {
	return r < unicode.MaxASCII && (unicode.IsLetter(r) || unicode.IsDigit(r)) || strings.ContainsRune(".:/_-", r)
}

func quote(s string) string {
	if s == "" || strings.ContainsFunc(s, func(r rune) bool { return !bare(r) }) {
		return strconv.Quote(s)
	}
	return s
}

// String returns the text form of the filter, which ParseFilter reads.
func (f Filter) String() string {
	var terms []string
	for _, c := range criteria {
		if v := c.print(&f); len(v) > 0 {
			terms = append(terms, c.key+"="+strings.Join(v, ","))
		}
	}
	return strings.Join(terms, " ")
}

// list is a criterion whose values are independent of each other.
func list[T any](key string, field func(*Filter) *[]T, parse func(string) (T, error), print func(T) string) criterion {
	return criterion{
		key: key,
		parse: func(f *Filter, values []value) error {
			for _, v := range values {
				x, err := parse(v.text)
				if err != nil {
					return err
				}
				*field(f) = append(*field(f), x)
			}
			return nil
		},
		print: func(f *Filter) (s []string) {
			for _, x := range *field(f) {
				s = append(s, print(x))
			}
			return s
		},
	}
}

func anyText(s string) (string, error) { return s, nil }

func parseDirection(s string) (extension.Direction, error) {
	for _, d := range []extension.Direction{extension.Ingress, extension.Egress} {
		if s == d.String() {
			return d, nil
		}
	}
	return 0, fmt.Errorf("%q is neither ingress nor egress", s)
}

func parseVLANs(f *Filter, values []value) error {
	var ids []string
	for _, v := range values {
		if v.text == "untagged" {
			f.Untagged = true
		} else {
			ids = append(ids, v.text)
		}
	}
	var err error
	f.VLANs, err = vlan.ParseSet(strings.Join(ids, ","))
	return err
}

func printVLANs(f *Filter) (s []string) {
	if !f.VLANs.IsZero() {
		s = append(s, f.VLANs.String())
	}
	if f.Untagged {
		s = append(s, "untagged")
	}
	return s
}

// name is a number that has a name in the text form.
type name struct {
	name   string
	number uint64
}

var etherTypes = []name{{"ipv4", header.EtherTypeIPv4}, {"arp", header.EtherTypeARP}, {"ipv6", header.EtherTypeIPv6}}

var protocols = []name{
	{"icmp", header.ICMP}, {"tcp", header.TCP}, {"udp", header.UDP}, {"icmpv6", header.ICMPv6}, {"sctp", header.SCTP},
}

func parseNumber(names []name, s string, bits int) (uint64, error) {
	for _, n := range names {
		if s == n.name {
			return n.number, nil
		}
	}
	v, err := strconv.ParseUint(s, 0, bits)
	if err != nil {
		err = fmt.Errorf("%q is no name and no number within 0–%d", s, 1<<bits-1)
	}
	return v, err
}

func printNumber(names []name, v uint64, format string) string {
	for _, n := range names {
		if v == n.number {
			return n.name
		}
	}
	return fmt.Sprintf(format, v)
}

func parseEtherType(s string) (uint16, error) {
	v, err := parseNumber(etherTypes, s, 16)
	return uint16(v), err
}

func printEtherType(v uint16) string { return printNumber(etherTypes, uint64(v), "%#04x") }

func parseProtocol(s string) (uint8, error) {
	v, err := parseNumber(protocols, s, 8)
	return uint8(v), err
}

func printProtocol(v uint8) string { return printNumber(protocols, uint64(v), "%d") }

func parseUint16(s string) (uint16, error) {
	v, err := parseNumber(nil, s, 16)
	return uint16(v), err
}

func printUint16(v uint16) string { return printNumber(nil, uint64(v), "%d") }

func parsePrefix(s string) (netip.Prefix, error) {
	if p, err := netip.ParsePrefix(s); err == nil {
		return p, nil
	}
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		return netip.Prefix{}, fmt.Errorf("%q is neither an IP address nor a prefix", s)
	}
	return netip.PrefixFrom(a, a.BitLen()), nil
}

func parseDrop(f *Filter, values []value) error {
	for _, v := range values {
		if v.text == "any" && !v.quoted {
			f.Dropped = true
		} else {
			f.DropReasons = append(f.DropReasons, v.text)
		}
	}
	return nil
}

func printDrop(f *Filter) (s []string) {
	if f.Dropped {
		s = append(s, "any")
	}
	for _, r := range f.DropReasons {
		if r == "any" {
			s = append(s, `"any"`)
		} else {
			s = append(s, quote(r))
		}
	}
	return s
}
