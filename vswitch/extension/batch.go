package extension

import (
	"math/bits"
	"time"

	"github.com/hvswitch/hvswitch/ports"
)

// MaxBatch is the largest number of frames in a Batch.
const MaxBatch = 64

// Direction says which way frames go at a port.
type Direction uint8

// Directions, as the switch sees them.
const (
	Ingress Direction = iota // from the port into the switch
	Egress                   // from the switch to the port
)

// String returns "ingress" or "egress".
func (d Direction) String() string {
	if d == Ingress {
		return "ingress"
	}
	return "egress"
}

// Batch is up to MaxBatch frames on their way at one port. It belongs to the extension for the time of one
// call; nothing of it may be kept.
type Batch struct {
	direction Direction
	kind      Kind   // of the extension that has it
	name      string // of its Binding
	port      *Port
	source    *Port
	state     any
	now       time.Duration
	frames    []*ports.Frame
	alive     uint64 // bits by frame, as those below
	edited    uint64
	chosen    uint64
	targets   []target
	reasons   [MaxBatch]string
	droppers  [MaxBatch]string // names of extensions
	kinds     [MaxBatch]Kind
	forks     []*ports.Frame
}

// target is a port to which a frame is to be sent.
type target struct {
	frame int
	port  *Port
}

// Direction says which way the frames go.
func (b *Batch) Direction() Direction { return b.direction }

// Port is the port at which the frames are: on ingress the one they came from, on egress the one they go
// to. On ingress it is nil for frames that an extension has injected.
func (b *Batch) Port() *Port { return b.port }

// Source is the port the frames came from; nil for frames that an extension has injected.
func (b *Batch) Source() *Port { return b.source }

// State is what the extension's Lifecycle.Connect returned for Port; nil without.
func (b *Batch) State() any { return b.state }

// Len is the number of frames.
func (b *Batch) Len() int { return len(b.frames) }

// Frame is frame i, which is not to be changed: see Edit. Its outermost tag is beside its bytes.
func (b *Batch) Frame(i int) *ports.Frame { return b.frames[i] }

// Alive reports whether frame i has not been dropped.
func (b *Batch) Alive(i int) bool { return b.alive>>(i&63)&1 != 0 }

// Reason says why frame i was dropped, such as "spoofed source" or, by an extension, "firewall: telnet", where
// firewall is the name of its Binding. It is empty while the frame is alive.
func (b *Batch) Reason(i int) string {
	if b.Alive(i) {
		return ""
	}
	if who := b.droppers[i]; who != "" {
		return who + ": " + b.reasons[i]
	}
	return b.reasons[i]
}

// Drop drops frame i. reason says why, in a few words. Only filters and forwarding can; of a dropped frame
// nothing changes.
func (b *Batch) Drop(i int, reason string) {
	if b.kind&(KindFilter|KindForwarding) != 0 {
		b.drop(i, reason)
	}
}

func (b *Batch) drop(i int, reason string) {
	if b.Alive(i) {
		b.alive &^= 1 << (i & 63)
		b.droppers[i], b.kinds[i], b.reasons[i] = b.name, b.kind, reason
	}
}

// Edit returns frame i to be changed: its head, its tag, its offload request. What it is for other ports does not
// change. The body must not be modified. Only filters can; others, and those that edit a dropped frame, get a
// frame that goes nowhere.
func (b *Batch) Edit(i int) *ports.Frame {
	bit := uint64(1) << (i & 63)
	if b.kind&KindFilter == 0 || !b.Alive(i) {
		f := new(ports.Frame)
		f.Fork(b.frames[i])
		return f
	}
	if b.direction == Egress && b.edited&bit == 0 {
		n := bits.OnesCount64(b.edited)
		if n == len(b.forks) {
			b.forks = append(b.forks, new(ports.Frame))
		}
		b.forks[n].Fork(b.frames[i])
		b.frames[i] = b.forks[n]
	}
	b.edited |= bit
	return b.frames[i]
}

// Send has frame i go to ports in place of where the switch would send it; without any it goes nowhere. The policy
// of each of them still applies. Ports that are not connected, and the one the frame came from, are
// left out. Only forwarding can; the last call for a frame counts.
func (b *Batch) Send(i int, to ...*Port) {
	if b.kind&KindForwarding == 0 || !b.Alive(i) {
		return
	}
	bit := uint64(1) << (i & 63)
	if b.chosen&bit != 0 {
		kept := b.targets[:0]
		for _, t := range b.targets {
			if t.frame != i {
				kept = append(kept, t)
			}
		}
		b.targets = kept
	}
	b.chosen |= bit
	first := len(b.targets)
next:
	for _, p := range to {
		if p == nil || p.is(b.source) {
			continue
		}
		for _, t := range b.targets[first:] {
			if t.port.is(p) {
				continue next
			}
		}
		b.targets = append(b.targets, target{i, p})
	}
}

// is reports whether both are the same port, be it with other settings.
func (p *Port) is(o *Port) bool {
	return p == o || o != nil && p.Index == o.Index && p.Name == o.Name && p.ID == o.ID && p.Switch == o.Switch
}

// NewBatch returns a batch of at most MaxBatch frames, for the tests of extensions: a switch makes its own.
// It can be given to a Capture, Filter or Forwarding.
func NewBatch(d Direction, port, source *Port, state any, frames ...*ports.Frame) *Batch {
	b := &Batch{direction: d, kind: KindFilter | KindForwarding, port: port, source: source, state: state, frames: frames}
	b.alive = 1<<len(frames) - 1
	return b
}
