package vswitch

import (
	"fmt"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vlan"
)

// MirrorRole is the part of a vNIC in the mirroring of its switch.
type MirrorRole uint8

// Roles in mirroring. A copy of each frame that a source sends or receives goes to every destination, once,
// whatever its VLAN.
const (
	MirrorNone MirrorRole = iota
	MirrorSource
	MirrorDestination
)

// String returns "none", "source" or "destination".
func (r MirrorRole) String() string {
	switch r {
	case MirrorNone:
		return "none"
	case MirrorSource:
		return "source"
	case MirrorDestination:
		return "destination"
	}
	return fmt.Sprintf("mirror role %d", uint8(r))
}

// mirrorSent copies what the source port of a burst sends, as far as the policy lets it pass.
func (w *worker) mirrorSent(b *burst) {
	if b.snap.mirrors.n == 0 || b.trace != nil {
		return
	}
	b.beginMirror()
	m := &w.mirroring
	m.clear()
	for i := range b.meta {
		switch b.meta[i].drop {
		case 0, DropReserved, DropSamePort, DropNoDestination:
			m.add(b, i)
			b.meta[i].mirrored = true
		}
	}
	w.sendMirrored(b, m)
}

// mirrorReceived copies those of a group that a source receives, unless the mirror has them already.
func (w *worker) mirrorReceived(b *burst, g *group, drops []DropReason) {
	if b.snap.mirrors.n == 0 {
		return
	}
	b.beginMirror()
	m := &w.mirroring
	m.clear()
	for n, i := range g.index {
		if drops[n] == 0 && !b.meta[i].mirrored {
			m.add(b, int(i))
			b.meta[i].mirrored = true
		}
	}
	w.sendMirrored(b, m)
}

func (b *burst) beginMirror() {
	if b.mirrored {
		return
	}
	b.mirrored = true
	for i := range b.meta {
		b.meta[i].mirrored = false
	}
}

// sendMirrored sends copies to the destinations of the mirror. What a destination sends does not come back to it.
func (w *worker) sendMirrored(b *burst, m *group) {
	if len(m.frames) == 0 {
		return
	}
	for i := range b.snap.mirrors.all() {
		to := b.snap.ports.at(i)
		if to == b.in {
			continue
		}
		if !to.up.Load() {
			to.count.drop(DropLinkDown, len(m.frames))
			continue
		}
		for n, f := range m.frames {
			f.VLAN = ports.Tag{}
			if tci := b.meta[m.index[n]].tci; to.mirrorTag && tci != 0 {
				f.VLAN = ports.Tag{TPID: vlan.TPID8021Q, TCI: tci}
			}
		}
		w.send(b, to, m.frames, m.bytes, false, nil)
	}
}
