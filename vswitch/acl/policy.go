package acl

import (
	"slices"
	"time"
)

// Policy is a Config in the form that judges frames. It never changes, and any number of vNICs and
// goroutines may use it at once.
type Policy struct {
	cfg      Config
	programs [2][2]*program // by direction and family
	ip       [2][2]*basicIP
	mac      [2]basicMAC
	actions  []action // of the extended rules
	meters   []int32  // indices in Config.Basic of the meters
	meterOf  []int32  // the other way round
	timeouts [numStates]uint32
	idle     [256]uint32 // of protocols
	limit    int

	judgesIP [2]bool // by direction: a rule other than a meter may deny IP packets
	stateful bool    // there is a stateful rule
	tracks   bool    // connections matter
	cached   bool    // finding the rules for a packet costs more than looking it up
}

// action is what an extended rule does.
type action struct {
	allow, stateful, portless bool
	idle                      uint32 // ticks; 0: that of the protocol
}

// Compile checks cfg and makes a Policy of it. A nil cfg is the zero Config. cfg may be changed
// afterwards. The error, if any, is a *ConfigError.
func Compile(cfg *Config) (*Policy, error) {
	if cfg == nil {
		cfg = &Config{}
	}
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	p := &Policy{cfg: cfg.clone()}
	p.compileBasic()
	p.compileExtended()
	p.tracks = p.stateful || p.cfg.KeepEstablished
	t := &p.cfg.Timeouts
	tcp := ticksOr(t.TCP, 2*time.Hour+4*time.Minute)
	for i := range p.idle {
		p.idle[i] = ticksOr(t.Other, 10*time.Minute)
	}
	p.idle[TCP] = tcp
	p.idle[UDP] = ticksOr(t.UDP, 5*time.Minute)
	p.idle[ICMP] = ticksOr(t.ICMP, time.Minute)
	p.idle[ICMPv6] = p.idle[ICMP]
	handshake, closed := ticksOr(t.TCPHandshake, time.Minute), ticksOr(t.TCPClosing, 4*time.Minute)
	p.timeouts = [numStates]uint32{
		synSent:     handshake,
		synReceived: handshake,
		halfClosed:  closed,
		closing:     closed,
		reset:       resetTimeout,
	}
	p.limit = p.cfg.Connections
	if p.limit == 0 {
		p.limit = defaultConns
	}
	return p, nil
}

// manyRules is where looking a verdict up is cheaper than finding it.
const manyRules = 8

func (p *Policy) compileBasic() {
	rules := p.cfg.Basic
	p.meterOf = make([]int32, len(rules))
	for i := range rules {
		p.meterOf[i] = noRule
		switch r := &rules[i]; {
		case r.Action == Meter:
			p.meterOf[i] = int32(len(p.meters))
			p.meters = append(p.meters, int32(i))
		case r.Any == AnyIP || r.Prefix.IsValid():
			p.judgeIP(r.Direction)
		}
	}
	for _, d := range []Direction{Out, In} {
		p.mac[d.index()] = compileMAC(rules, d)
		for _, f := range []family{v4, v6} {
			p.ip[d.index()][f] = compileBasicIP(rules, d, f)
		}
	}
	p.cached = len(rules) > manyRules
}

func (p *Policy) compileExtended() {
	rules := p.cfg.Extended
	order := make([]int32, len(rules))
	p.actions = make([]action, len(rules))
	for i := range rules {
		r := &rules[i]
		order[i] = int32(i)
		p.actions[i] = action{r.Action == Allow, r.Stateful, r.portless(), ticksOr(r.IdleTimeout, 0)}
		p.stateful = p.stateful || r.Stateful
		p.judgeIP(r.Direction)
		if r.Stateful {
			p.judgeIP(Both)
		}
	}
	slices.SortStableFunc(order, func(a, b int32) int { return int(rules[b].Weight) - int(rules[a].Weight) })
	for _, d := range []Direction{Out, In} {
		for _, f := range []family{v4, v6} {
			p.programs[d.index()][f] = compileProgram(rules, order, d, f)
		}
	}
	p.cached = p.cached || len(rules) > manyRules
}

func (p *Policy) judgeIP(d Direction) {
	p.judgesIP[0] = p.judgesIP[0] || d&Out != 0
	p.judgesIP[1] = p.judgesIP[1] || d&In != 0
}

// Judges reports whether frames of a direction have to be checked: there is a rule or a meter for them, or
// they may belong to a connection.
func (p *Policy) Judges(d Direction) bool {
	i := d.index()
	used := p.tracks || p.mac[i].used || p.judgesIP[i]
	for _, ip := range p.ip[i] {
		used = used || ip.meters.used
	}
	return used
}

// index is 0 for Out and 1 for In.
func (d Direction) index() int { return int(d >> 1) }

func (d Direction) reverse() Direction { return Both - d }

// match finds what the rules say of a packet.
func (p *Policy) match(f *flow, dir int) (m match) {
	ip := p.ip[dir][f.family]
	m.extended, m.meter = noRule, noRule
	m.basic = ip.judges.find(f)
	if !p.denies(m.basic) {
		if i := ip.meters.find(f); i != noRule {
			m.meter = p.meterOf[i]
		}
		m.extended = p.programs[dir][f.family].match(f, false)
	}
	return m
}

func (p *Policy) denies(basic int32) bool {
	return basic != noRule && p.cfg.Basic[basic].Action == Deny
}

// idleOf is how long a connection that a rule admits is remembered.
func (p *Policy) idleOf(rule int32, proto Protocol) uint32 {
	if t := p.actions[rule].idle; t != 0 {
		return t
	}
	return p.idle[proto]
}

// tick is the unit of time.
const tick = 100 * time.Millisecond

func ticksOr(d, otherwise time.Duration) uint32 {
	if d == 0 {
		d = otherwise
	}
	return uint32(d / tick)
}

// Config returns a copy of what the Policy was compiled from.
func (p *Policy) Config() Config { return p.cfg.clone() }

func (c *Config) clone() Config {
	n := *c
	n.Basic = slices.Clone(c.Basic)
	n.Extended = slices.Clone(c.Extended)
	for i := range n.Extended {
		r := &n.Extended[i]
		r.Local, r.Remote = slices.Clone(r.Local), slices.Clone(r.Remote)
		r.LocalPorts, r.RemotePorts = slices.Clone(r.LocalPorts), slices.Clone(r.RemotePorts)
	}
	return n
}
