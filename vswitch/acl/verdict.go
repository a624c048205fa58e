package acl

import (
	"fmt"
	"strconv"
)

// Verdict is the judgement on one frame.
type Verdict struct {
	Reason Reason

	// Rule is the index in Config.Basic or Config.Extended, as Reason says, of the rule that decided:
	// of a connection, the rule that admitted it. -1 when no rule did, or when that rule has been
	// replaced (Config.KeepEstablished).
	Rule int32
}

// Allowed reports whether the frame may pass. It is false for the zero Verdict.
func (v Verdict) Allowed() bool { return v.Reason > 0 && v.Reason < firstDenial }

// Reason says why a frame may pass or not.
type Reason uint8

// Reasons to let a frame pass.
const (
	_           Reason = iota
	Default            // no rule matches
	ByRule             // an extended rule allows it
	New                // a stateful extended rule allows it, and made a connection
	Established        // it belongs to a connection
	Related            // an ICMP error about a packet of a connection
	LaterPart          // a fragment of a datagram whose first fragment passed
	NotIP              // no rule for IP applies
	Neighbor           // IPv6 neighbor discovery, to which no rule applies

	firstDenial
)

// Reasons to deny a frame.
const (
	DeniedByMAC      = firstDenial + iota // by a basic rule
	DeniedByAddress                       // by a basic rule
	DeniedByRule                          // by an extended rule
	NoConnection                          // the rule is stateful, and this is not the beginning of a connection
	BadState                              // flags that TCP does not use, or not in this state of the connection
	OutOfWindow                           // outside the TCP window of the connection
	TableFull                             // no room for another connection
	Malformed                             // not a valid IP packet
	MissingFirst                          // a fragment of a datagram whose first fragment did not pass here
	FragmentOverlap                       // a fragment that overlaps another
	FragmentDisorder                      // too many fragments of one datagram out of order

	numReasons
)

var reasonNames = [numReasons]string{
	Default:          "no rule",
	ByRule:           "rule",
	New:              "new connection",
	Established:      "connection",
	Related:          "related to a connection",
	LaterPart:        "later fragment",
	NotIP:            "not IP",
	Neighbor:         "neighbor discovery",
	DeniedByMAC:      "MAC rule",
	DeniedByAddress:  "address rule",
	DeniedByRule:     "rule",
	NoConnection:     "no connection",
	BadState:         "bad TCP state",
	OutOfWindow:      "out of TCP window",
	TableFull:        "connection table full",
	Malformed:        "malformed",
	MissingFirst:     "first fragment missing",
	FragmentOverlap:  "overlapping fragment",
	FragmentDisorder: "fragments in disorder",
}

// String returns the reason in a few words.
func (r Reason) String() string {
	if int(r) < len(reasonNames) && reasonNames[r] != "" {
		return reasonNames[r]
	}
	return "reason " + strconv.Itoa(int(r))
}

// Describe says in words what a verdict of Check or Peek means, such as
//
//	denied: rule: extended rule 3 "no mail" (weight 100)
func (p *Policy) Describe(v Verdict) string {
	if v.Reason == 0 {
		return "not judged"
	}
	s := "denied: "
	if v.Allowed() {
		s = "allowed: "
	}
	s += v.Reason.String()
	list, label := len(p.cfg.Extended), "extended rule"
	if v.Reason == DeniedByMAC || v.Reason == DeniedByAddress {
		list, label = len(p.cfg.Basic), "basic rule"
	}
	if v.Rule < 0 || int(v.Rule) >= list {
		return s
	}
	s += fmt.Sprintf(": %s %d", label, v.Rule)
	if label == "basic rule" {
		r := &p.cfg.Basic[v.Rule]
		return s + quoted(r.Name) + fmt.Sprintf(" (%v %s)", r.Side, r.address())
	}
	r := &p.cfg.Extended[v.Rule]
	return s + quoted(r.Name) + fmt.Sprintf(" (weight %d)", r.Weight)
}

func quoted(name string) string {
	if name == "" {
		return ""
	}
	return " " + strconv.Quote(name)
}
