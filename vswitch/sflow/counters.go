package sflow

import "encoding/binary"

// Counters are those of a port. Directions are the switch's: Rx came in by the port. Numbers are totals
// since any fixed moment while the port is connected.
type Counters struct {
	RxFrames, RxBytes, RxDrops uint64
	TxFrames, TxBytes, TxDrops uint64

	Speed uint64 // bit/s; 0 when not known
	Up    bool   // the link
}

const (
	genericCounters = 1 // sFlow version 5, structure if_counters
	ethernetCSMACD  = 6 // IANAifType
	fullDuplex      = 1
	adminUp         = 1
	operUp          = 2
	notCounted      = 0xffffffff
)

// appendTo appends the generic interface counters. The switch does not count frames by kind of address, so
// ifInUcastPkts and ifOutUcastPkts have all.
func (c *Counters) appendTo(b []byte, index uint32) []byte {
	status := uint32(adminUp)
	if c.Up {
		status |= operUp
	}
	const dataLen = 88
	b = appendWords(b, genericCounters, dataLen, index, ethernetCSMACD)
	b = binary.BigEndian.AppendUint64(b, c.Speed)
	b = appendWords(b, fullDuplex, status)
	b = binary.BigEndian.AppendUint64(b, c.RxBytes)
	b = appendWords(b, uint32(c.RxFrames), notCounted, notCounted, uint32(c.RxDrops), notCounted, notCounted)
	b = binary.BigEndian.AppendUint64(b, c.TxBytes)
	b = appendWords(b, uint32(c.TxFrames), notCounted, notCounted, uint32(c.TxDrops), notCounted)
	const notPromiscuous = 2 // TruthValue of RFC 2579
	return appendWords(b, notPromiscuous)
}
