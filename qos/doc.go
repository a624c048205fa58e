// Package qos divides the bandwidth of an uplink among classes, such as the vNICs of a switch: a maximum
// for each, a minimum under contention, fair queues, and a token bucket for use on its own.
//
// A Scheduler is a value without clock, lock or goroutine. Whoever owns the uplink queues what is to be
// sent, takes batches of what may be sent now, and asks when to come back:
//
//	s.Enqueue(vnic, flow, qos.WireBytes(len, 0, 0), frame, now)
//	n := s.Dequeue(batch, now)
//	wait, ok := s.Next(now)
//
// The package knows neither frames nor ports; package vswitch does.
//
//	flows of a class     class        classes              uplink
//
//	ping ──┐
//	bulk ──┼─ in turns ── maximum ──┐
//	bulk ──┘                        ├── by minimum ──┬── rate of the link ──▶
//	       ── in turns ── maximum ──┘                │
//	                                                 │
//	       ── in turns ── maximum ──┐                │
//	                                ├── equally ─────┘
//	       ── in turns ── maximum ──┘
//	                     without minimum
//
// # Minimum
//
// A minimum is a weight, 0–100, or a rate, by the Mode of the scheduler. It binds only while the link has
// less to give than classes want. Then the classes that have frames queued and are below their maximum
// share the link in proportion to their minimums; what one does not use goes to the others in the same
// proportion.
//
// Classes without minimum share equally what is not reserved: 100 less the sum of the weights, or the rate
// of the link less the sum of the rates; at least a hundredth, so that none starves, taken from the others
// in proportion. Together they compete with that as one class.
//
// While it has frames queued, a class with a minimum lags behind its part of what is sent by a frame of
// its own and that part of a frame of each other class, at most. A class that begins to send comes next,
// so what sends little waits for about a frame, whatever its minimum, and so does such a flow inside its
// class. A class without minimum waits for the turn of the rest besides: where the rest is a hundredth of
// 1 Gbit/s and others of it saturate that, 1.2 ms with frames of 1514 bytes.
//
// # Maximum
//
// In any time t a class sends at most its burst, its MaxRate × t, and one frame, by which it may overdraw.
//
// # What is counted
//
// Rates are of the sizes given to Enqueue. WireBytes is what a frame takes of an Ethernet wire, with
// preamble, FCS and interpacket gap; with it, rates are comparable with the speed of a link, and small
// frames cost what they cost. Whoever wants to limit the bytes of frames alone gives those.
package qos
