// Package checksum computes the Internet checksum of RFC 1071 over memory in any number of pieces, and
// updates one in place by RFC 1624.
//
// A Sum collects pieces in their order, each of any length, and is folded once at the end:
//
//	var s checksum.Sum
//	s.AddPseudo(addresses, 6, segmentLen)
//	s.Add(head[l4:])
//	s.Add(body)
//	field := s.Checksum()
//
// All sums are in host order of the big-endian words of the packet: what binary.BigEndian reads and
// writes.
package checksum
