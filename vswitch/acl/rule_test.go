package acl

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/stretchr/testify/require"
)

func TestRulesAgreeWithReference(t *testing.T) {
	for seed := range uint64(100) {
		r := newSource(seed)
		cfg := r.config(r.IntN(30), pick(r, 0, 3, 20, 63, 64, 65, 200, 700))
		p, ref, s := compile(t, cfg), newReference(cfg), NewState()
		for i := range 300 {
			f := r.frame()
			q := subject{packet: f.packet()}
			q.classify(f.d, &s.key, false)
			dir := f.d.index()
			ip, program := p.ip[dir][q.flow.family], p.programs[dir][q.flow.family]
			want := [...]int{ref.ip(&f, false), ref.ip(&f, true), ref.extended(&f, false), ref.extended(&f, true), ref.mac(&f)}
			local, remote := loadMAC(q.head[6:]), loadMAC(q.head)
			if f.d == In {
				local, remote = remote, local
			}
			got := [...]int{int(ip.judges.find(&q.flow)), int(ip.meters.find(&q.flow)),
				int(program.match(&q.flow, false)), int(program.match(&q.flow, true)), int(p.mac[dir].find(local, remote))}
			if got != want {
				require.Equal(t, want, got, "seed %d, packet %d: %+v", seed, i, f)
			}
		}
	}
}

func TestExtendedRules(t *testing.T) {
	tcp := frame{d: Out, src: addr("10.0.0.5"), dst: addr("192.0.2.1"), proto: TCP, sport: 40000, dport: 443, flags: tcpACK, vlan: 7}
	in := tcp.reply()
	in.flags = tcpACK
	icmp := echo(Out, echoRequest4, 1)
	for _, c := range []struct {
		name  string
		rules []ExtendedRule
		f     frame
		want  Reason
		rule  int32
	}{
		{"none", nil, tcp, Default, -1},
		{"higher weight", []ExtendedRule{{Weight: 1, Direction: Out, Action: Deny}, {Weight: 2, Direction: Out, Action: Allow}}, tcp, ByRule, 1},
		{"equal weight: the first", []ExtendedRule{{Weight: 1, Direction: Out, Action: Deny}, {Weight: 1, Direction: Out, Action: Allow}}, tcp, DeniedByRule, 0},
		{"weight 0 and 65535", []ExtendedRule{{Direction: Out, Action: Allow}, {Weight: 65535, Direction: Out, Action: Deny}}, tcp, DeniedByRule, 1},
		{"other direction", []ExtendedRule{{Direction: In, Action: Deny}}, tcp, Default, -1},
		{"both directions", []ExtendedRule{{Direction: Both, Action: Deny}}, in, DeniedByRule, 0},
		{"local is the source of what is sent", []ExtendedRule{{Direction: Out, Action: Deny, Local: prefixes("10.0.0.0/8")}}, tcp, DeniedByRule, 0},
		{"local is the destination of what is received", []ExtendedRule{{Direction: In, Action: Deny, Local: prefixes("10.0.0.0/8"), Remote: prefixes("192.0.2.0/24")}}, in, DeniedByRule, 0},
		{"remote elsewhere", []ExtendedRule{{Direction: Out, Action: Deny, Remote: prefixes("192.0.3.0/24")}}, tcp, Default, -1},
		{"one of several prefixes", []ExtendedRule{{Direction: Out, Action: Deny, Remote: prefixes("::/0", "203.0.113.1/32", "192.0.2.1/32")}}, tcp, DeniedByRule, 0},
		{"IPv6 only", []ExtendedRule{{Direction: Out, Action: Deny, Remote: prefixes("::/0")}}, tcp, Default, -1},
		{"mapped addresses are IPv6", []ExtendedRule{{Direction: Out, Action: Deny, Remote: prefixes("::ffff:0.0.0.0/96")}}, tcp, Default, -1},
		{"protocol", []ExtendedRule{{Direction: Out, Action: Deny, Protocol: TCP}}, tcp, DeniedByRule, 0},
		{"other protocol", []ExtendedRule{{Direction: Out, Action: Deny, Protocol: UDP}}, tcp, Default, -1},
		{"remote port", []ExtendedRule{{Direction: Out, Action: Deny, RemotePorts: []PortRange{{First: 443}}}}, tcp, DeniedByRule, 0},
		{"local port of what is received", []ExtendedRule{{Direction: In, Action: Deny, LocalPorts: []PortRange{{40000, 40001}}}}, in, DeniedByRule, 0},
		{"port range", []ExtendedRule{{Direction: Out, Action: Deny, RemotePorts: []PortRange{{1, 2}, {444, 500}, {400, 443}}}}, tcp, DeniedByRule, 0},
		{"beside the range", []ExtendedRule{{Direction: Out, Action: Deny, RemotePorts: []PortRange{{1, 442}, {444, 65535}}}}, tcp, Default, -1},
		{"what has no ports", []ExtendedRule{{Direction: Out, Action: Deny, RemotePorts: []PortRange{{1, 65535}}}}, icmp, Default, -1},
		{"port 0", []ExtendedRule{{Direction: Out, Action: Deny, RemotePorts: []PortRange{{}}}}, icmp, Default, -1},
		{"isolation", []ExtendedRule{{Direction: Out, Action: Deny, Isolation: 7}}, tcp, DeniedByRule, 0},
		{"other isolation", []ExtendedRule{{Direction: Out, Action: Deny, Isolation: 8}}, tcp, Default, -1},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := newScene(t, Config{Extended: c.rules})
			require.Equal(t, c.rule, x.send(c.f, c.want).Rule)
		})
	}
}

func TestBasicRules(t *testing.T) {
	f := frame{d: Out, src: addr("10.0.0.5"), dst: addr("192.0.2.1"), proto: UDP, sport: 1, dport: 2}
	ip := func(a Action, s Side, p string) BasicRule {
		return BasicRule{Direction: Both, Action: a, Side: s, Prefix: netip.MustParsePrefix(p)}
	}
	mac := func(a Action, s Side, m ports.MAC) BasicRule {
		return BasicRule{Direction: Both, Action: a, Side: s, MAC: m}
	}
	for _, c := range []struct {
		name  string
		rules []BasicRule
		want  Reason
		rule  int32
	}{
		{"longest", []BasicRule{ip(Deny, Remote, "0.0.0.0/0"), ip(Allow, Remote, "192.0.2.0/24")}, Default, -1},
		{"longest denies", []BasicRule{ip(Allow, Remote, "192.0.2.0/24"), ip(Deny, Remote, "192.0.2.1/32")}, DeniedByAddress, 1},
		{"longest of both sides", []BasicRule{ip(Allow, Remote, "192.0.0.0/16"), ip(Deny, Local, "10.0.0.0/24")}, DeniedByAddress, 1},
		{"same length: deny", []BasicRule{ip(Deny, Local, "10.0.0.0/24"), ip(Allow, Remote, "192.0.2.0/24")}, DeniedByAddress, 0},
		{"any is shorter than all", []BasicRule{{Direction: Out, Action: Deny, Side: Local, Any: AnyIP}, ip(Allow, Remote, "0.0.0.0/0")}, Default, -1},
		{"any", []BasicRule{{Direction: Out, Action: Deny, Side: Local, Any: AnyIP}}, DeniedByAddress, 0},
		{"other direction", []BasicRule{{Direction: In, Action: Deny, Side: Local, Any: AnyIP}}, Default, -1},
		{"a meter hides nothing", []BasicRule{ip(Deny, Remote, "192.0.0.0/8"), ip(Meter, Remote, "192.0.2.1/32")}, DeniedByAddress, 0},
		{"MAC", []BasicRule{mac(Deny, Remote, peerMAC)}, DeniedByMAC, 0},
		{"MAC of the other side", []BasicRule{mac(Deny, Local, peerMAC)}, Default, -1},
		{"MAC before any", []BasicRule{{Direction: Both, Action: Deny, Side: Remote, Any: AnyMAC}, mac(Allow, Remote, peerMAC)}, Default, -1},
		{"any MAC", []BasicRule{{Direction: Both, Action: Deny, Side: Remote, Any: AnyMAC}, mac(Allow, Remote, ports.Broadcast)}, DeniedByMAC, 0},
		{"both kinds must allow", []BasicRule{mac(Allow, Remote, peerMAC), ip(Deny, Remote, "192.0.2.1/32")}, DeniedByAddress, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := newScene(t, Config{Basic: c.rules})
			require.Equal(t, c.rule, x.send(f, c.want).Rule)
		})
	}
}

func TestBasicAndExtendedRulesMustBothAllow(t *testing.T) {
	deny := BasicRule{Direction: In, Action: Deny, Side: Remote, Prefix: prefix("192.0.2.0/24")}
	c := outOnly()
	c.Basic = []BasicRule{deny}
	x := newScene(t, c)
	x.send(udpOut(), New)
	x.send(udpOut().reply(), DeniedByAddress) // of a connection too
	x.send(udpOut(), Established)

	x = newScene(t, Config{Basic: []BasicRule{{Direction: Both, Action: Allow, Side: Remote, Any: AnyIP}},
		Extended: []ExtendedRule{{Direction: Both, Action: Deny}}})
	x.send(udpOut(), DeniedByRule)
}

func TestFramesThatAreNotIP(t *testing.T) {
	arp := make([]byte, 42)
	copy(arp, vmMAC[:])
	copy(arp[6:], peerMAC[:])
	copy(arp[12:], []byte{0x08, 0x06, 0, 1, 0x08, 0, 6, 4})
	shut := Config{Basic: []BasicRule{{Direction: Both, Action: Deny, Side: Remote, Any: AnyIP}}, Extended: []ExtendedRule{{Direction: Both, Action: Deny}}}
	newScene(t, shut).packet(In, packetOf(arp, 0), NotIP)
	newScene(t, shut).packet(In, packetOf(arp[:30], 0), NotIP)
	shut.Basic = append(shut.Basic, BasicRule{Direction: In, Action: Deny, Side: Remote, MAC: peerMAC})
	newScene(t, shut).packet(In, packetOf(arp, 0), DeniedByMAC)
	newScene(t, shut).packet(In, packetOf(arp[:3], 0), Malformed)
	llc := append(append([]byte(nil), arp[:12]...), 0, 3, 0x42, 0x42, 3)
	newScene(t, shut).packet(Out, packetOf(llc, 0), NotIP)
}

func TestMalformedPackets(t *testing.T) {
	f := udpOut()
	bad := f.bytes()
	bad[14] = 0x46 // options that are not there
	for _, c := range []struct {
		cfg  Config
		want Reason
	}{
		{Config{}, Default},
		{Config{Basic: []BasicRule{{Direction: Both, Action: Allow, Side: Remote, MAC: peerMAC}}}, Default},
		{Config{Basic: []BasicRule{{Direction: Both, Action: Meter, Side: Remote, Any: AnyIP}}}, Default},
		{Config{Basic: []BasicRule{{Direction: Both, Action: Allow, Side: Remote, Any: AnyIP}}}, Malformed},
		{Config{Extended: []ExtendedRule{{Direction: Both, Action: Allow}}}, Malformed},
	} {
		newScene(t, c.cfg).packet(Out, packetOf(bad[:len(bad)-20], 0), c.want)
	}
	tags := append(append([]byte(nil), bad[:12]...), 0x81, 0, 0, 1, 0x81, 0, 0, 1, 0x81, 0, 0, 1, 0x81, 0, 0, 1, 0x81, 0, 0, 1, 8, 0)
	newScene(t, outOnly()).packet(Out, packetOf(tags, 0), Malformed)
}

func TestConfigErrors(t *testing.T) {
	ok := BasicRule{Direction: Both, Action: Deny, Side: Remote, Prefix: prefix("10.1.2.3/8")}
	basic := func(change func(*BasicRule)) Config {
		r := ok
		r.Name = "b"
		change(&r)
		return Config{Basic: []BasicRule{{Direction: In, Action: Allow, Side: Local, Any: AnyMAC}, r}}
	}
	extended := func(change func(*ExtendedRule)) Config {
		r := ExtendedRule{Name: "web", Direction: In, Action: Allow}
		change(&r)
		return Config{Extended: []ExtendedRule{{Direction: In, Action: Deny}, r}}
	}
	for want, c := range map[string]Config{
		`Connections -1: is out of 1–16777216`:                                                {Connections: -1},
		`Connections 16777217: is out of 1–16777216`:                                          {Connections: 1<<24 + 1},
		`Timeouts.UDP 10ms: is out of 1s–720h`:                                                {Timeouts: Timeouts{UDP: second / 100}},
		`Extended 32769 rules: more than 32768`:                                               {Extended: make([]ExtendedRule, 32769)},
		`Basic 65537 rules: more than 65536`:                                                  {Basic: make([]BasicRule, 65537)},
		`basic rule 1 "b": Direction 0: is not In, Out or Both`:                               basic(func(r *BasicRule) { r.Direction = 0 }),
		`basic rule 1 "b": Action 9: is not Allow, Deny or Meter`:                             basic(func(r *BasicRule) { r.Action = 9 }),
		`basic rule 1 "b": Side 0: is not Local or Remote`:                                    basic(func(r *BasicRule) { r.Side = 0 }),
		`basic rule 1 "b": Any 7: is not AnyIP or AnyMAC`:                                     basic(func(r *BasicRule) { r.Any = 7 }),
		`basic rule 1 "b": Prefix, MAC, Any 2 set: exactly one is needed`:                     basic(func(r *BasicRule) { r.MAC = vmMAC }),
		`basic rule 1 "b": Prefix, MAC, Any 0 set: exactly one is needed`:                     basic(func(r *BasicRule) { r.Prefix = netip.Prefix{} }),
		`basic rule 1 "b": Prefix invalid Prefix: is not an IP prefix`:                        basic(func(r *BasicRule) { r.Prefix = netip.PrefixFrom(addr("10.0.0.1"), 40) }),
		`basic rule 1 "b": Action meter: a meter needs an IP address`:                         basic(func(r *BasicRule) { r.Prefix, r.MAC, r.Action = netip.Prefix{}, vmMAC, Meter }),
		`basic rule 1 "b": local address any MAC: is that of basic rule 0, direction in too`:  basic(func(r *BasicRule) { r.Prefix, r.Any, r.Side = netip.Prefix{}, AnyMAC, Local }),
		`basic rule 1: remote address 10.0.0.0/8: is that of basic rule 0, direction out too`: {Basic: []BasicRule{ok, {Direction: Out, Action: Allow, Side: Remote, Prefix: prefix("10.0.0.0/8")}}},
		`extended rule 1 "web": Direction 4: is not In, Out or Both`:                          extended(func(r *ExtendedRule) { r.Direction = 4 }),
		`extended rule 1 "web": Action meter: is not Allow or Deny`:                           extended(func(r *ExtendedRule) { r.Action = Meter }),
		`extended rule 1 "web": Action action 0: is not Allow or Deny`:                        extended(func(r *ExtendedRule) { r.Action = 0 }),
		`extended rule 1 "web": Remote invalid Prefix: is not an IP prefix`:                   extended(func(r *ExtendedRule) { r.Remote = []netip.Prefix{{}} }),
		`extended rule 1 "web": Local, Remote: one is IPv4 and the other is IPv6`:             extended(func(r *ExtendedRule) { r.Local, r.Remote = prefixes("10.0.0.0/8"), prefixes("::/0") }),
		`extended rule 1 "web": LocalPorts 90-80: first is above last`:                        extended(func(r *ExtendedRule) { r.LocalPorts = []PortRange{{90, 80}} }),
		`extended rule 1 "web": RemotePorts 80: ICMP has no ports`:                            extended(func(r *ExtendedRule) { r.RemotePorts, r.Protocol = []PortRange{{First: 80}}, ICMP }),
		`extended rule 1 "web": Isolation 16777216: is above 16777215`:                        extended(func(r *ExtendedRule) { r.Isolation = 1 << 24 }),
		`extended rule 1 "web": Stateful true: only a rule that allows can be`:                extended(func(r *ExtendedRule) { r.Stateful, r.Action = true, Deny }),
		`extended rule 1 "web": IdleTimeout 1m0s: the rule is not stateful`:                   extended(func(r *ExtendedRule) { r.IdleTimeout = 60 * second }),
		`extended rule 1 "web": IdleTimeout 721h0m0s: is out of 1s–720h`:                      extended(func(r *ExtendedRule) { r.Stateful, r.IdleTimeout = true, 721*3600*second }),
	} {
		p, err := Compile(&c)
		require.Nil(t, p)
		var wrong *ConfigError
		require.ErrorAs(t, err, &wrong)
		require.EqualError(t, err, "acl: "+want)
	}
	p, err := Compile(nil)
	require.NoError(t, err)
	require.Equal(t, Config{}, p.Config())
}

func TestPolicyKeepsNothingOfTheConfig(t *testing.T) {
	c := outOnly()
	c.Extended[0].Remote = prefixes("192.0.2.0/24")
	c.Basic = []BasicRule{{Direction: Both, Action: Allow, Side: Remote, Prefix: prefix("192.0.2.0/24")}}
	p := compile(t, c)
	c.Extended[0].Remote[0] = prefix("203.0.113.0/24")
	c.Extended[0].Action = Deny
	c.Basic[0].Action = Deny
	copied := p.Config()
	copied.Extended[0].Remote[0] = prefix("203.0.113.0/24")
	require.Equal(t, prefix("192.0.2.0/24"), p.Config().Extended[0].Remote[0])
	x := newScene(t, Config{})
	x.p = p
	x.send(udpOut(), New)
}

func TestDescribe(t *testing.T) {
	c := outOnly()
	c.Basic = []BasicRule{{Direction: Out, Action: Deny, Side: Remote, Prefix: prefix("203.0.113.0/24")}}
	x := newScene(t, c)
	f := udpOut()
	require.Equal(t, `allowed: new connection: extended rule 0 "out" (weight 10)`, x.p.Describe(x.send(f, New)))
	f.dst = addr("203.0.113.1")
	require.Equal(t, `denied: address rule: basic rule 0 (remote 203.0.113.0/24)`, x.p.Describe(x.send(f, DeniedByAddress)))
	require.Equal(t, `not judged`, x.p.Describe(Verdict{}))
	for r := Default; r < numReasons; r++ {
		if r != firstDenial {
			require.NotContains(t, r.String(), "reason", fmt.Sprint(int(r)))
		}
	}
}
