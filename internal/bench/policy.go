package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/hvswitch/hvswitch/internal/header"
	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vswitch"
	"github.com/hvswitch/hvswitch/vswitch/acl"
	"github.com/hvswitch/hvswitch/vswitch/extension"
)

// The policy rows: what guards and access control add to the cost of a frame.

const (
	establishedFlows = 64

	// freshTuples is how many frames are sent before a 5-tuple comes again. The tables of the
	// ACL hold fewer, freshConns connections, so it is new to them again.
	freshTuples = 1 << 16
	freshConns  = 1 << 12
)

var policyLoad = load{size: 64, batch: 32, ports: 2, addresses: 2, cores: 1}

// policySetup is a switch with two vNICs, the first of which sends to the second.
type policySetup struct {
	guards   bool
	acl      [2]*acl.Policy // of sender and receiver
	tuples   []tuple
	fresh    bool // each frame is the first of a connection
	answered bool // the connections are opened before
	tracked  bool // the sender's connections are known to the ACL

	extensions []extension.Binding
	mirror     bool // a third vNIC gets copies of what the sender sends

	uplink    bool // the receiver is behind it
	qos       *vswitch.QoSConfig
	bandwidth vswitch.Bandwidth // of the sender
}

// policyBench is a row whose contestants open makes.
func policyBench(name string, open func(s *scene, c *contest) error) *bench {
	return &bench{
		rows: memoryRow(name, "ns/frame"),
		rep:  memoryRep, shortRep: memoryShortRep,
		open: func(options) (*contest, error) {
			s, err := newScene(1)
			if err != nil {
				return nil, err
			}
			c := &contest{close: s.close}
			if err := open(s, c); err != nil {
				s.close()
				return nil, err
			}
			return c, nil
		},
	}
}

// policyRow is a row that has a change of the setup beside bare forwarding.
func policyRow(name string, change func(p *policySetup) error) *bench {
	return policyBench(name, func(s *scene, c *contest) (err error) {
		p := policySetup{tuples: guestTuples()}
		if c.limit, err = s.policy("bare forwarding", p); err != nil {
			return err
		}
		if err := change(&p); err != nil {
			return err
		}
		c.ours, err = s.policy("hvswitch", p)
		return err
	})
}

func policyBenches() []*bench {
	open := func(name string, o func(s *scene, c *contest) error) *bench { return policyBench("policy/"+name, o) }
	beside := func(name string, change func(p *policySetup) error) *bench {
		return policyRow("policy/"+name, func(p *policySetup) error {
			p.guards, p.answered = true, true
			return change(p)
		})
	}
	all := []*bench{
		beside("guards", func(*policySetup) error { return nil }),
		beside("guards+acl/established", func(p *policySetup) (err error) {
			p.acl[0], err = acl.Compile(serverRules())
			p.tracked = true
			return err
		}),
		beside("guards+acl+receiver/established", func(p *policySetup) (err error) {
			p.acl[0], err = acl.Compile(serverRules())
			p.acl[1] = p.acl[0]
			p.tracked = true
			return err
		}),
	}
	for _, n := range []int{0, 10, 1000, 10000} {
		for _, stateful := range []bool{false, true} {
			for _, fresh := range []bool{false, true} {
				name := fmt.Sprintf("acl/rules=%d/%s/%s", n, choose(stateful, "stateful", "stateless"), choose(fresh, "new", "established"))
				all = append(all, open(name, func(s *scene, c *contest) error {
					p, matched, err := rulesSetup(n, stateful, fresh)
					if err != nil {
						return err
					}
					c.note = func() string { return fmt.Sprintf("matching %d rules", matched) }
					if c.ours, err = s.policy("hvswitch", p); err != nil {
						return err
					}
					if n <= 10 {
						p.acl, p.tracked, p.answered = [2]*acl.Policy{}, false, false
						c.limit, err = s.policy("bare forwarding", p)
						return err
					}
					if p, _, err = rulesSetup(10, stateful, fresh); err != nil {
						return err
					}
					c.limit, err = s.policy("10 rules", p)
					return err
				}))
			}
		}
	}
	return all
}

func choose(c bool, yes, no string) string {
	if c {
		return yes
	}
	return no
}

// policy makes a contestant of a setup.
func (s *scene) policy(name string, p policySetup) (c *contestant, err error) {
	as(choose(name == "hvswitch", "ours", "limit"), func() {
		l := policyLoad
		var h *vswitch.Host
		if h, err = newHost(l); err != nil {
			return
		}
		s.later(func() { h.Close() })
		g := newGuests(l)
		var sender *vswitch.VNIC
		if p.uplink {
			if err = s.connectUplink(h, g.all[1], p.qos); err != nil {
				return
			}
		}
		for i, ip := range []netip.Addr{senderIP, receiverIP} {
			if i == 1 && p.uplink {
				break
			}
			v, e := h.NewVNIC(portName(i), g.all[i], &vswitch.VNICConfig{
				Switch: switchName, MAC: addr(i),
				DHCPGuard: p.guards, RouterGuard: p.guards, IPSourceGuard: p.guards, ARPInspection: p.guards,
				Addresses: []netip.Prefix{netip.PrefixFrom(ip, ip.BitLen())},
				ACL:       p.acl[i],
			})
			if err = e; err != nil {
				return
			}
			if i == 0 {
				sender = v
				shared := v.Config()
				shared.Bandwidth = p.bandwidth
				if err = v.SetConfig(shared); err != nil {
					return
				}
			}
		}
		if p.mirror {
			monitor := newGuest("monitor", l, nil, g.watch)
			if _, err = h.NewVNIC("monitor", monitor, &vswitch.VNICConfig{Switch: switchName, Mirror: vswitch.MirrorDestination}); err != nil {
				return
			}
			mirrored := sender.Config()
			mirrored.Mirror = vswitch.MirrorSource
			if err = sender.SetConfig(mirrored); err != nil {
				return
			}
		}
		if p.extensions != nil {
			cfg := h.Switch(switchName).Config()
			cfg.Extensions = p.extensions
			if err = h.Switch(switchName).SetConfig(cfg); err != nil {
				return
			}
		}
		if p.answered {
			if err = g.handshake(p.tuples); err != nil {
				return
			}
		}
		g.prepare(p.tuples, p.fresh)
		if p.fresh { // fills the tables
			if _, _, err = g.move(4 * freshConns); err != nil {
				return
			}
		}
		c = perFrame(name, l.cores, func(n int) (int, time.Duration, error) {
			before := sender.Connections().Created
			n, d, err := g.move(n)
			want := uint64(0)
			if p.fresh && p.tracked {
				want = uint64(n)
			}
			if got := sender.Connections().Created - before; err == nil && got != want {
				err = fmt.Errorf("%d frames opened %d connections, not %d", n, got, want)
			}
			return n, d, err
		})
	})
	return c, err
}

var (
	senderIP   = netip.AddrFrom4([4]byte{10, 0, 0, 5})
	receiverIP = netip.AddrFrom4([4]byte{10, 0, 0, 6})
)

// tuple is a connection as the sender sees it.
type tuple struct {
	proto                 acl.Protocol
	remote                netip.Addr
	localPort, remotePort uint16
}

// guestTuples are TCP connections between the guests.
func guestTuples() (list []tuple) {
	for i := range establishedFlows {
		list = append(list, tuple{acl.TCP, receiverIP, uint16(32768 + 37*i), 443})
	}
	return list
}

// Flags of TCP.
const (
	syn = 0x02
	ack = 0x10
)

// Where the part of a frame lies that is another in each connection: from the TTL of IPv4 to the end of
// the TCP header, or for UDP some of the payload.
const (
	patchStart = ethLen + 8
	patchEnd   = ethLen + ipLen + tcpLen
)

type patch [patchEnd - patchStart]byte

// frame returns a frame of the connection, one that the sender sent or with reply the receiver: a TCP
// segment without data or 12 bytes in UDP, padded to 64.
func (t tuple) frame(flags byte, reply bool) []byte {
	f := make([]byte, policyLoad.size)
	from, to, src, dst := addr(0), addr(1), senderIP.As4(), t.remote.As4()
	srcPort, dstPort, seq, acked := t.localPort, t.remotePort, uint32(1000), uint32(5000)
	if reply {
		from, to, src, dst = to, from, dst, src
		srcPort, dstPort, seq, acked = dstPort, srcPort, acked, seq
	}
	if flags&ack != 0 {
		acked++ // the SYN of the other side
	} else {
		acked = 0
	}
	if flags&syn == 0 {
		seq++
	}
	pair := pairOf(to, from)
	copy(f, pair[:])
	binary.BigEndian.PutUint16(f[12:], 0x0800)
	ip := f[ethLen:patchEnd]
	ip[0] = 0x45
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
	ip[8], ip[9] = 64, byte(t.proto)
	copy(ip[12:], src[:])
	copy(ip[16:], dst[:])
	binary.BigEndian.PutUint16(ip[10:], checksum(ip[:ipLen], 0))
	l4 := ip[ipLen:]
	binary.BigEndian.PutUint16(l4[0:], srcPort)
	binary.BigEndian.PutUint16(l4[2:], dstPort)
	if t.proto == acl.UDP {
		binary.BigEndian.PutUint16(l4[4:], uint16(len(l4))) // no checksum
		return f
	}
	binary.BigEndian.PutUint32(l4[4:], seq)
	binary.BigEndian.PutUint32(l4[8:], acked)
	l4[12], l4[13] = tcpLen/4<<4, flags
	binary.BigEndian.PutUint16(l4[14:], 64000) // window
	pseudo := uint32(t.proto) + uint32(len(l4))
	for i := 12; i < ipLen; i += 2 {
		pseudo += uint32(binary.BigEndian.Uint16(ip[i:]))
	}
	binary.BigEndian.PutUint16(l4[16:], checksum(l4, pseudo))
	return f
}

func checksum(b []byte, sum uint32) uint16 {
	for i := 0; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

// handshake opens the connections: the sender's first frames, the answers, and the sender's next.
func (g *guests) handshake(tuples []tuple) error {
	for _, step := range []struct {
		port  int
		flags byte
	}{{0, syn}, {1, syn | ack}, {0, ack}} {
		var list [][]byte
		for _, t := range tuples {
			list = append(list, t.frame(step.flags, step.port == 1))
		}
		if err := g.play(step.port, list); err != nil {
			return fmt.Errorf("handshake: %w", err)
		}
	}
	return nil
}

// play sends some frames from a port once.
func (g *guests) play(port int, list [][]byte) error {
	q := &g.all[port].rx
	was := q.frames
	q.frames, q.pos = make([]ports.Frame, len(list)), 0
	for i, f := range list {
		q.frames[i].SetHead(append(make([]byte, ports.Headroom), f...), ports.Headroom, len(f))
	}
	before := g.received()
	g.watch.busy.Store(1)
	start := time.Now()
	q.send(len(list))
	if _, err := g.watch.wait(start); err != nil {
		return err
	}
	q.frames, q.pos = was, 0
	if got := g.received() - before; got != uint64(len(list)) {
		return fmt.Errorf("%d frames were sent and %d received", len(list), got)
	}
	return nil
}

// prepare fills the sender's ring with frames of the connections, or has each frame, when it is sent,
// made the first one of the next connection.
func (g *guests) prepare(tuples []tuple, fresh bool) {
	q := &g.all[0].rx
	flags := byte(ack)
	if fresh {
		flags = syn
	}
	r := rand.New(rand.NewPCG(5, 6))
	for i := range q.frames {
		copy(q.frames[i].Head(), tuples[r.IntN(len(tuples))].frame(flags, false))
	}
	if fresh {
		for _, t := range tuples {
			q.patches = append(q.patches, patch(t.frame(flags, false)[patchStart:patchEnd]))
		}
		q.pair, q.rewrite = 0, true
	}
}

// serverRules are those of a web server, which may open connections itself.
func serverRules() *acl.Config {
	allow := func(weight uint16, from string, p acl.Protocol, port ...acl.PortRange) acl.ExtendedRule {
		r := acl.ExtendedRule{Weight: weight, Direction: acl.In, Action: acl.Allow, Protocol: p, LocalPorts: port, Stateful: true}
		if from != "" {
			r.Remote = []netip.Prefix{netip.MustParsePrefix(from)}
		}
		return r
	}
	return &acl.Config{Extended: []acl.ExtendedRule{
		allow(90, "", acl.TCP, acl.PortRange{First: 80}, acl.PortRange{First: 443}),
		allow(80, "", acl.UDP, acl.PortRange{First: 443}),
		allow(70, "10.255.0.0/24", acl.TCP, acl.PortRange{First: 22}),
		allow(60, "10.255.1.0/24", acl.TCP, acl.PortRange{First: 9100, Last: 9199}),
		allow(50, "10.0.0.0/8", acl.ICMP),
		{Weight: 40, Direction: acl.Out, Action: acl.Deny, Remote: []netip.Prefix{netip.MustParsePrefix("169.254.169.254/32")}},
		{Weight: 30, Direction: acl.Out, Action: acl.Deny, Protocol: acl.TCP, RemotePorts: []acl.PortRange{{First: 25}}},
		{Weight: 20, Direction: acl.Out, Action: acl.Allow, Stateful: true},
		{Weight: 10, Direction: acl.In, Action: acl.Deny},
	}}
}

// rulesSetup has n rules for the sender, and below them two that let it send and not receive. Its
// connections match all allowing rules alike. matched is how many they match.
func rulesSetup(n int, stateful, fresh bool) (p policySetup, matched int, err error) {
	r := rand.New(rand.NewPCG(3, uint64(n)))
	rules := groupRules(r, n)
	for i := range rules {
		rules[i].Stateful = stateful && rules[i].Action == acl.Allow
	}
	cfg := &acl.Config{Extended: rules}
	count := establishedFlows
	if fresh {
		count, cfg.Connections = freshTuples, freshConns
	}
	policy, err := acl.Compile(cfg)
	if err != nil {
		return p, 0, err
	}
	p = policySetup{acl: [2]*acl.Policy{policy, nil}, fresh: fresh, answered: stateful && !fresh, tracked: stateful}
	seen := make(map[tuple]bool, count)
	hit := map[int]bool{}
	var h header.Header
	state := acl.NewState()
	for tries := 0; len(p.tuples) < count; tries++ {
		if tries > 20*count+1000 {
			return p, 0, errors.New("the rules let too little pass")
		}
		t, ok := tupleOf(r, &rules[r.IntN(len(rules))])
		if !ok || seen[t] {
			continue
		}
		f := t.frame(syn, false)
		h.Parse(f, len(f))
		if v := state.Peek(policy, acl.Out, 0, f, &h, len(f), 0); v.Allowed() {
			seen[t], hit[int(v.Rule)] = true, true
			p.tuples = append(p.tuples, t)
		}
	}
	return p, len(hit), nil
}

var servicePorts = []uint16{22, 53, 80, 123, 443, 3306, 5432, 6379, 8080, 9090, 9200, 27017}

// groupRules are rules as security groups have them, one below the other in weight, and behind them a
// denial of all that comes in and permission of all that goes out.
func groupRules(r *rand.Rand, n int) (rules []acl.ExtendedRule) {
	near := func(shortest, longest int) []netip.Prefix {
		a := netip.AddrFrom4([4]byte{10, byte(r.Uint32()), byte(r.Uint32()), byte(r.Uint32())})
		return []netip.Prefix{netip.PrefixFrom(a, shortest+r.IntN(longest-shortest+1)).Masked()}
	}
	local := func(bits int) []netip.Prefix { // the rules are shared by many, of whom we are some
		if r.IntN(2) == 0 {
			return []netip.Prefix{netip.PrefixFrom(senderIP, bits).Masked()}
		}
		return near(bits, bits)
	}
	port := func() []acl.PortRange { return []acl.PortRange{{First: servicePorts[r.IntN(len(servicePorts))]}} }
	for i := range n {
		x := acl.ExtendedRule{Weight: uint16(60000 - i), Direction: acl.Both, Action: acl.Allow, Protocol: acl.TCP}
		switch i % 10 {
		case 0, 1, 2:
			x.Remote, x.LocalPorts = near(24, 32), port()
		case 3, 4:
			x.Remote, x.RemotePorts = near(16, 24), port()
		case 5, 6:
			x.Remote, x.RemotePorts, x.Protocol = near(16, 24), port(), acl.UDP
		case 7:
			x.Remote, x.Protocol, x.Action = near(32, 32), 0, acl.Deny
		case 8:
			first := uint16(1024 + r.IntN(60000))
			x.LocalPorts = []acl.PortRange{{First: first, Last: first + 1 + uint16(r.IntN(1000))}}
			x.Local, x.Remote = local(28), near(20, 20)
		case 9:
			x.Local, x.Remote, x.Protocol = local(32), near(24, 24), 0
		}
		rules = append(rules, x)
	}
	return append(rules, acl.ExtendedRule{Direction: acl.In, Action: acl.Deny}, acl.ExtendedRule{Direction: acl.Out, Action: acl.Allow})
}

// tupleOf returns a connection of the sender that a rule allows, if there can be one.
func tupleOf(r *rand.Rand, x *acl.ExtendedRule) (t tuple, ok bool) {
	if x.Action != acl.Allow || x.Direction&acl.Out == 0 || len(x.Local) > 0 && !x.Local[0].Contains(senderIP) {
		return t, false
	}
	t = tuple{proto: x.Protocol, localPort: uint16(1024 + r.IntN(64000)), remotePort: servicePorts[r.IntN(len(servicePorts))]}
	if t.proto == 0 {
		t.proto = []acl.Protocol{acl.TCP, acl.UDP}[r.IntN(2)]
	}
	prefix := netip.MustParsePrefix("10.0.0.0/8")
	if len(x.Remote) > 0 {
		prefix = x.Remote[0]
	}
	first := prefix.Addr().As4()
	a := binary.BigEndian.Uint32(first[:]) | uint32(uint64(r.Uint32())>>prefix.Bits())
	t.remote = netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, a)))
	pick := func(p *uint16, list []acl.PortRange) {
		if len(list) > 0 {
			*p = list[0].First + uint16(r.IntN(int(max(list[0].First, list[0].Last)-list[0].First)+1))
		}
	}
	pick(&t.localPort, x.LocalPorts)
	pick(&t.remotePort, x.RemotePorts)
	// A rule for one address and one port leaves only the other port free.
	if len(x.LocalPorts) > 0 && len(x.RemotePorts) == 0 {
		t.remotePort = uint16(1024 + r.IntN(64000))
	}
	return t, true
}
