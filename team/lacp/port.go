package lacp

import (
	"math/bits"
	"time"
)

// Timers of 6.4.4, and of annex 57A of IEEE 802.3.
const (
	fastPeriodic   = time.Second
	slowPeriodic   = 30 * time.Second
	shortTimeout   = 3 * fastPeriodic
	longTimeout    = 3 * slowPeriodic
	aggregateWait  = 2 * time.Second
	churnDetection = 60 * time.Second

	maxSent     = 3  // LACPDUs in fastPeriodic (6.4.16)
	maxReceived = 10 // frames of a slow protocol in a second (57A.2)
)

// Port is one link of an aggregator. Its methods are for the goroutine that uses the Aggregator.
type Port struct {
	agg     *Aggregator
	key     uint16 // configured
	actor   PortInfo
	partner PortInfo
	up      bool
	speed   uint64

	receive      ReceiveState
	currentWhile time.Duration // Never when it does not run
	loopedUntil  time.Duration // zero when frames do not come back

	periodic      time.Duration // next transmission; Never when there is none
	periodicShort bool

	selection     Selection
	tried         group // the last that it was selected for
	punishedUntil time.Duration
	mux           MuxState
	waitWhile     time.Duration
	waitedSince   time.Duration

	ntt     bool // need to transmit
	answers []Marker
	sent    [maxSent]time.Duration // the last ones, oldest first

	window   [2]rate // received, by LACP and marker
	movedOff bool    // the partner port has shown up elsewhere

	actorChurn, partnerChurn churn
	count                    Counters
}

// Counters count what a port has received and sent.
type Counters struct {
	Received  uint64 // valid LACPDUs
	Sent      uint64 // LACPDUs
	Markers   uint64 // answered
	Malformed uint64 // neither LACPDU nor marker, or with an impossible system
	Limited   uint64 // more than a second's worth of PDUs, or of markers
	Looped    uint64 // LACPDUs of the own system
	Ignored   uint64 // LACPDUs while the link is down, responses to markers
}

// Status is a port's state, for operators.
type Status struct {
	Receive   ReceiveState
	Selection Selection
	Mux       MuxState
	Actor     PortInfo
	Partner   PortInfo // by default while Actor.State has Defaulted

	// Looped says that the own LACPDUs come back: the link, or a bridge behind it, is a loop.
	Looped bool

	// ActorChurn and PartnerChurn say that the end did not get in sync for 60 s (6.4.17).
	ActorChurn, PartnerChurn bool

	Counters Counters
}

func newPort(a *Aggregator, number uint16, cfg PortConfig) *Port {
	p := &Port{agg: a, key: cfg.Key, currentWhile: Never, periodic: Never, waitWhile: Never}
	p.actor = PortInfo{
		System: a.system,
		Port:   PortID{Priority: cfg.Priority, Number: number},
		State:  Aggregation,
	}
	if cfg.Priority == 0 {
		p.actor.Port.Priority = DefaultPriority
	}
	p.actor.State.put(Activity, !a.cfg.Passive)
	p.actor.State.put(ShortTimeout, a.cfg.Short)
	p.actor.Key = p.keyOf(0)
	for i := range p.sent {
		p.sent[i] = -fastPeriodic
	}
	p.recordDefault()
	return p
}

// keyOf returns the key of the port at a speed in bit/s: its length in bits and the two bits behind the
// first, which tells all speeds of Ethernet apart.
func (p *Port) keyOf(speed uint64) uint16 {
	if p.key != 0 {
		return p.key
	}
	n := bits.Len64(speed)
	if n < 3 {
		return 1
	}
	return uint16(n)<<2 | uint16(speed>>(n-3)&3)
}

// SetLink tells the state of the link and its speed in bit/s, 0 when not known.
func (p *Port) SetLink(now time.Duration, up bool, speed uint64) {
	if up && p.keyOf(speed) != p.actor.Key {
		p.actor.Key = p.keyOf(speed)
		p.unselect()
		p.ntt = true
	}
	p.speed = speed
	if !up && p.up {
		p.loopedUntil = 0
	}
	p.up = up
	p.agg.run(now)
}

// Receive takes the payload of a frame of EtherType 0x8809 that has arrived for Group, from its subtype
// on. Subtypes other than those of LACP and markers are ignored and counted as malformed. b is not kept.
func (p *Port) Receive(now time.Duration, b []byte) {
	kind := 0
	switch {
	case len(b) == 0 || b[0] != subtypeLACP && b[0] != subtypeMarker:
		p.count.Malformed++
		return
	case b[0] == subtypeMarker:
		kind = 1
	}
	if !p.window[kind].allow(now) {
		p.count.Limited++
		return
	}
	if !p.up {
		p.count.Ignored++
		return
	}
	if kind == 1 {
		p.receiveMarker(now, b)
		return
	}
	pdu, err := ParsePDU(b)
	if err != nil || !pdu.Actor.System.MAC.IsUnicast() {
		p.count.Malformed++
		return
	}
	p.receivePDU(now, &pdu)
	p.agg.run(now)
}

// rate bounds what is received in a second.
type rate struct {
	since time.Duration
	n     int
}

func (r *rate) allow(now time.Duration) bool {
	if r.n == 0 || now-r.since >= time.Second {
		*r = rate{since: now}
	}
	r.n++
	return r.n <= maxReceived
}

// Number returns the port's number.
func (p *Port) Number() int { return int(p.actor.Port.Number) }

// Collecting reports whether frames that arrive on the port belong to the group.
func (p *Port) Collecting() bool { return p.actor.State.Has(Collecting) }

// Distributing reports whether frames of the group may be sent on the port. It implies Collecting.
func (p *Port) Distributing() bool { return p.actor.State.Has(Distributing) }

// Status returns the state of the port.
func (p *Port) Status() Status {
	return Status{
		Receive: p.receive, Selection: p.selection, Mux: p.mux,
		Actor: p.actor, Partner: p.partner,
		Looped:     p.loopedUntil != 0,
		ActorChurn: p.actorChurn.detected, PartnerChurn: p.partnerChurn.detected,
		Counters: p.count,
	}
}

func (p *Port) next() time.Duration {
	if !p.up {
		return Never
	}
	next := min(p.currentWhile, p.periodic, p.waitWhile, p.actorChurn.next(), p.partnerChurn.next())
	if p.loopedUntil != 0 {
		next = min(next, p.loopedUntil)
	}
	if p.ntt && p.mayTransmit() {
		next = min(next, p.sent[0]+fastPeriodic)
	}
	return next
}
