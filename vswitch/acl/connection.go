package acl

import (
	"net/netip"
	"strconv"
	"time"
)

// Connection is a tracked connection as it is at one moment.
type Connection struct {
	Opener    Direction // of its first packet
	Protocol  Protocol
	Local     netip.AddrPort // the port is 0 where there is none, and the identifier of an ICMP echo
	Remote    netip.AddrPort
	Isolation uint32
	State     string        // such as "established"
	Rule      int32         // index in Config.Extended of the rule that admitted it; -1 when it has been replaced
	Idle      time.Duration // since its last packet
}

var stateNames = [numStates]string{
	unanswered:  "unanswered",
	answered:    "answered",
	established: "established",
	synSent:     "SYN sent",
	synReceived: "SYN received",
	halfClosed:  "half closed",
	closing:     "closing",
	reset:       "reset",
}

// String returns the state in words.
func (s connState) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return "state " + strconv.Itoa(int(s))
}

// Connections returns at most limit of the connections, in no order. Rules are those of the policy that
// judged last.
func (s *State) Connections(now time.Duration, limit int) []Connection {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []Connection
	for i := 0; i < s.table.count && len(list) < limit; i++ {
		c := s.table.at(uint32(i + 1))
		if c.expired(s.bound.policy, ticks(now)) {
			continue
		}
		local, remote := c.addrs()
		k := Connection{
			Opener: c.opener(), Protocol: c.protocol(), Isolation: c.isolation(),
			Local: netip.AddrPortFrom(local, c.localPort()), Remote: netip.AddrPortFrom(remote, c.remotePort()),
			State: c.state.String(), Rule: c.rule, Idle: max(0, time.Duration(int32(ticks(now)-c.seen))*tick),
		}
		if !hasPorts(k.Protocol) {
			k.Remote = netip.AddrPortFrom(remote, 0)
		}
		if c.epoch != s.bound.epoch {
			k.Rule = noRule
		}
		list = append(list, k)
	}
	return list
}
