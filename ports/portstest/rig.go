package portstest

import (
	"testing"
	"time"

	"github.com/hvswitch/hvswitch/ports"
)

// Rig is a backend on the test bench: the backend, and who holds the far end of its cable. Both are
// ready for frames, and the link is up.
type Rig struct {
	// Backend is the backend under test. Run closes it.
	Backend ports.Backend

	// Peer is the far end of the cable. Whatever it holds, the rig's maker releases with
	// t.Cleanup; by then Backend is closed.
	Peer Peer

	// Depth is how many frames of the full MTU the cable holds in each direction, through each
	// queue, while nobody takes them off: below it nothing may be lost or refused. 0 means 64.
	Depth int

	// SetLink takes the link of Backend down, or up again; nil when the rig cannot.
	SetLink func(up bool)

	// Puts are the offload requests that reach Backend unchanged when Peer puts them on the
	// cable, Takes those that Peer sees unchanged when Backend sends them. Zero when Peer
	// knows bytes only.
	Puts, Takes ports.Offloads

	// Lacks states what else the rig cannot do.
	Lacks Lacks
}

// Peer is the far end of a cable. The suite calls Put from one goroutine at a time, and Take from
// one, which may be another.
//
// Frames that the suite did not send, such as router solicitations of a kernel, do no harm: the suite
// knows its own by their source addresses, which begin with 02:88:b5, and skips the others.
type Peer interface {
	// Put puts a frame on the cable, and waits while there is no room for it.
	Put(p Packet) error

	// Take takes the next frame off the cable. It reports false when none came within wait, or
	// when the cable is closed. The bytes are the caller's until the next call.
	Take(wait time.Duration) (Packet, bool)
}

// Packet is a frame as the far end of a cable sees it.
type Packet struct {
	// Bytes is the frame as it looks on the wire: tags inserted, no FCS.
	Bytes []byte

	// Offload is the request that rides with the frame; its offsets count from the start of
	// Bytes.
	Offload ports.Offload

	// Queue is the queue on which to Put the frame, for a peer that has a choice; others
	// ignore it. It may exceed the number of queues.
	Queue int
}

// Lacks says why a rig lacks an ability. The subtests that need it do nothing but say so.
type Lacks map[Ability]string

// Ability is something that most rigs can do.
type Ability string

// Abilities. One that is not among Rig.Lacks is there.
const (
	// Backpressure: Send comes up short when nobody takes frames off the cable, and what it
	// took is not lost. Without it, frames beyond Depth may be lost.
	Backpressure Ability = "backpressure"

	// Runts: Peer can put frames shorter than an Ethernet header on the cable.
	Runts Ability = "runts"

	// Spread: frames of many flows, put with many values of Packet.Queue, reach every receive
	// queue of Backend.
	Spread Ability = "spread"

	// Tags: frames cross the cable with VLAN tags. Without it the suite sends none.
	Tags Ability = "tags"
)

func (r *Rig) need(t *testing.T, a Ability) {
	t.Helper()
	if why, lacks := r.Lacks[a]; lacks {
		moot("the rig lacks %s: %s", a, why)
	}
}

func (r *Rig) has(a Ability) bool {
	_, lacks := r.Lacks[a]
	return !lacks
}

func (r *Rig) needDepth(t *testing.T, n int) {
	t.Helper()
	if r.Depth < n {
		moot("the cable holds %d frames, %d are needed", r.Depth, n)
	}
}
