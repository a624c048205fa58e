// Package lacp is the Link Aggregation Control Protocol of IEEE 802.1AX-2014, clause 6, as state
// machines without a clock, a goroutine or a socket: time and LACPDUs go in, LACPDUs come out.
//
//	agg, err := lacp.New(&lacp.Config{System: lacp.SystemID{MAC: mac}})
//	port, err := agg.AddPort(1, nil)
//	port.SetLink(now, true, 10e9)
//	port.Receive(now, pdu)                   // what arrived with EtherType 0x8809
//	for port, pdu := range agg.Output(now) { // what is to be sent
//	}
//	usable := port.Distributing()            // what it is all about
//	wake := agg.Next()                       // call Advance then
//
// An Aggregator is one system with one aggregator: its ports join one link aggregation group, that is
// one partner. Frames and sockets are the business of package team.
package lacp
