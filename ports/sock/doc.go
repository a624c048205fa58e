// Package sock is the backend of a unix socket: a virtual machine at one end of the cable, the switch
// at the other. It speaks what QEMU calls -netdev stream and -netdev dgram, and what libkrun and vfkit
// call unixstream and unixgram.
//
//	vm1, err := sock.ListenStream("/run/vm1.sock", nil)           // -netdev stream,addr.type=unix,…
//	vm2, err := sock.DialStream("/run/vm2.sock", nil)             // the same with server=on
//	vm3, err := sock.Dgram("/run/sw3.sock", "/run/vm3.sock", nil) // -netdev dgram,local.type=unix,…
//	vm4, err := sock.Dgram("/run/sw4.sock", "", nil)              // krun_add_net_unixgram
//
// In a stream each frame follows its length, 4 bytes in network byte order; a datagram is one frame
// (net/stream_data.c and net/dgram.c of QEMU). Neither carries offload requests, so the VMM must not
// offer the guest any: QEMU does not, libkrun takes features 0.
//
// The link is up while there is a peer. A socket outlives its peers: a VM may start before or after
// the switch, and be restarted.
//
// Frames are received and sent many with one system call. An idle socket owns no buffers: it costs a
// few descriptors. On other systems than Linux, all functions fail with errors.ErrUnsupported.
package sock
