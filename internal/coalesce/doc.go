// Package coalesce puts TCP segments that follow one another together again: generic receive offload
// (GRO) for a device that has none. One frame of 64 KiB costs a switch, and a guest behind it that takes
// large segments, little more than one of 1,500 bytes.
//
// A receive queue offers each frame in the order of arrival, and lends those that were not taken in by
// one that it lends already:
//
//	if !c.Join(f) {
//		batch.Lend(f)
//	}
//	...
//	c.Finish() // once, before anybody looks at the frames
//
// What is put together asks to be cut (ports.Offload), and package segment makes of it the frames that
// arrived, byte by byte and in their order. So only such segments are joined as a cut can bring back:
//
//   - TCP over IPv4 without options or IPv6 without extension headers, no fragments, whole and without
//     padding, with payload, ACK set and none of SYN, RST, URG;
//   - the same flow, VLAN and Ethernet header, and the next sequence number;
//   - the same TOS or traffic class, flow label, TTL and DF, and in IPv4 the ID that follows;
//   - the same acknowledgement, window and TCP options, time stamps included;
//   - correct checksums of IPv4 and TCP, or for TCP such as the device has checked or leaves to others;
//   - each as long as the first; a shorter one ends the frame, as PSH and FIN do;
//   - CWR in the first only, whose frame says so (ports.Offload.ECN).
//
// These are the rules of Linux (net/ipv4/tcp_offload.c, tcp_gro_receive), which joins segments without
// ID as well. Frames of a flow are not reordered; those of different flows may be.
package coalesce
