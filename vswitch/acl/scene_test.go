package acl

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// scene is one vNIC with a policy.
type scene struct {
	*testing.T
	s   *State
	p   *Policy
	now time.Duration
}

func compile(t testing.TB, c Config) *Policy {
	p, err := Compile(&c)
	require.NoError(t, err)
	return p
}

func newScene(t *testing.T, c Config) *scene {
	return &scene{t, NewState(), compile(t, c), 100 * second}
}

// send judges a frame and wants a verdict for a reason.
func (x *scene) send(f frame, want Reason) Verdict {
	x.Helper()
	return x.packet(f.d, f.packet(), want)
}

func (x *scene) packet(d Direction, q packet, want Reason) Verdict {
	x.Helper()
	before := x.s.Stats()
	peek := peek(x.s, x.p, d, x.now, q)
	require.Equal(x, want, peek.Reason, "peek")
	require.Equal(x, before, x.s.Stats(), "peek changes nothing")
	v := judgeAll(x.s, x.p, d, x.now, q)
	require.Equal(x, want, v.Reason, "%s", x.p.Describe(v))
	require.Equal(x, peek, v, "peek")
	return v
}

func peek(s *State, p *Policy, d Direction, now time.Duration, q packet) Verdict {
	return s.Peek(p, d, now, q.head, q.header, q.size, q.isolation)
}

// judgeAll judges packets as the switch does a batch and returns the last verdict.
func judgeAll(s *State, p *Policy, d Direction, now time.Duration, packets ...packet) (v Verdict) {
	j := s.Begin(p, d, now)
	defer j.End()
	if j.Far() {
		for _, q := range packets {
			j.Fetch(q.head, q.header, q.isolation)
		}
	}
	for _, q := range packets {
		v = j.Check(q.head, q.header, q.size, q.isolation)
	}
	return v
}

// outOnly is the usual policy: what the VM begins is allowed with its answers, nothing else comes in.
func outOnly() Config {
	return Config{Extended: []ExtendedRule{
		{Name: "out", Weight: 10, Direction: Out, Action: Allow, Stateful: true},
		{Name: "shut", Weight: 1, Direction: Both, Action: Deny},
	}}
}

func udpOut() frame {
	return frame{d: Out, src: addr("10.0.0.5"), dst: addr("192.0.2.1"), proto: UDP, sport: 4000, dport: 53}
}

// A segment of a story: flags as letters, sequence numbers from the initial ones on.
type step struct {
	d        Direction
	flags    string
	seq, ack int
	n        int // bytes of payload
	want     Reason
}

const (
	isnOut = 4294967290 // wraps around
	isnIn  = 5000
)

func (s step) frame() frame {
	f := frame{d: s.d, src: addr("10.0.0.5"), dst: addr("192.0.2.1"), proto: TCP, sport: 40000, dport: 443, window: 1000}
	mine, theirs := uint32(isnOut), uint32(isnIn)
	if s.d == In {
		f.src, f.dst, f.sport, f.dport = f.dst, f.src, f.dport, f.sport
		mine, theirs = theirs, mine
	}
	for i, c := range "FSRPA" {
		if strings.ContainsRune(s.flags, c) {
			f.flags |= 1 << i
		}
	}
	f.seq, f.payload = mine+uint32(s.seq), make([]byte, s.n)
	if f.flags&tcpACK != 0 {
		f.ack = theirs + uint32(s.ack)
	}
	return f
}

func (x *scene) play(steps ...step) {
	x.Helper()
	for i, s := range steps {
		x.Logf("step %d: %v %s", i, s.d, s.flags)
		x.send(s.frame(), s.want)
	}
}

var handshake = []step{
	{Out, "S", 0, 0, 0, New},
	{In, "SA", 0, 1, 0, Established},
	{Out, "A", 1, 1, 0, Established},
}
