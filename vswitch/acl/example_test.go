package acl_test

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/hvswitch/hvswitch/internal/header"
	"github.com/hvswitch/hvswitch/vswitch/acl"
)

// A web server: the world may reach port 443, administrators everything, and what it opens itself is
// answered. Nothing else comes in.
func Example() {
	policy, err := acl.Compile(&acl.Config{Extended: []acl.ExtendedRule{
		{Name: "web", Weight: 30, Direction: acl.In, Action: acl.Allow, Stateful: true,
			Protocol: acl.TCP, LocalPorts: []acl.PortRange{{First: 443}}},
		{Name: "admin", Weight: 20, Direction: acl.In, Action: acl.Allow, Stateful: true,
			Remote: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}},
		{Name: "out", Weight: 10, Direction: acl.Out, Action: acl.Allow, Stateful: true},
		{Name: "shut", Weight: 1, Direction: acl.Both, Action: acl.Deny},
	}})
	if err != nil {
		fmt.Println(err)
		return
	}
	state := acl.NewState()
	start := time.Now()

	for _, c := range []struct {
		direction acl.Direction
		frame     []byte
	}{
		{acl.In, udp("203.0.113.7", "10.0.0.5", 53, 4000)},
		{acl.Out, udp("10.0.0.5", "203.0.113.7", 4000, 53)},
		{acl.In, udp("203.0.113.7", "10.0.0.5", 53, 4000)},
	} {
		var h header.Header
		h.Parse(c.frame, len(c.frame))
		judge := state.Begin(policy, c.direction, time.Since(start))
		verdict := judge.Check(c.frame, &h, len(c.frame), 0)
		judge.End()
		fmt.Println(policy.Describe(verdict))
	}
	// Output:
	// denied: rule: extended rule 3 "shut" (weight 1)
	// allowed: new connection: extended rule 2 "out" (weight 10)
	// allowed: connection: extended rule 2 "out" (weight 10)
}

func ExampleCompile_error() {
	_, err := acl.Compile(&acl.Config{Extended: []acl.ExtendedRule{
		{Name: "web", Direction: acl.In, Action: acl.Allow, LocalPorts: []acl.PortRange{{First: 90, Last: 80}}},
	}})
	fmt.Println(err)
	// Output:
	// acl: extended rule 0 "web": LocalPorts 90-80: first is above last
}

// udp returns a frame.
func udp(src, dst string, sport, dport uint16) []byte {
	b := make([]byte, 12, 42)
	b = append(b, 0x08, 0x00, 0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0)
	b = append(b, netip.MustParseAddr(src).AsSlice()...)
	b = append(b, netip.MustParseAddr(dst).AsSlice()...)
	return append(b, byte(sport>>8), byte(sport), byte(dport>>8), byte(dport), 0, 8, 0, 0)
}
