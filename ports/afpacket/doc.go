// Package afpacket connects a switch to a network interface of Linux, such as a NIC or one end of a
// veth pair, through packet sockets (packet(7)): the uplink that needs no driver and no kernel module.
//
//	uplink, err := afpacket.Open("eth0", nil)
//
// Frames are received from a ring that is shared with the kernel, without a copy and without a system
// call, and sent in batches. Checksum and segmentation requests pass in both directions, so that a
// 64 KiB TCP segment crosses as one frame, and VLAN tags are kept. TCP segments that arrive one by one
// are put together again, see Config.NoCoalescing.
//
// A packet socket listens in: the kernel's own network stack goes on receiving what arrives. An
// interface that carries a switch should have no addresses and be in no bridge.
//
// It needs CAP_NET_RAW, and CAP_NET_ADMIN for buffers beyond net.core.rmem_max. On other systems than
// Linux, Open fails with errors.ErrUnsupported.
package afpacket
