// Package vhostuser is the backend of a virtual machine's network card: the device end of the vhost-user
// protocol for virtio-net, in pure Go. A VMM such as QEMU, Cloud Hypervisor or crosvm, or DPDK's
// virtio-user, is at the other end; crosvm needs Config.ServeConfig.
//
//	port, err := vhostuser.Listen("/run/vm1.sock", &vhostuser.Config{Queues: 2})
//
// The switch works in the memory of the guest: a frame is copied once, from the buffers of the guest
// that sends it to those of the guest that receives it. Checksums and segmentation are left to whoever
// needs them, so a TCP segment of 64 KiB crosses as one frame.
//
// Neither the guest nor the VMM is trusted. Whatever they write is read once and checked; a ring that
// breaks the rules is stopped, and nothing else suffers.
//
// The protocol is that of QEMU's docs/interop/vhost-user.rst, the device that of OASIS virtio 1.2,
// sections 2.7 (split rings), 2.8 (packed rings) and 5.1 (network device). On other systems than
// little-endian Linux, Listen and Dial fail with errors.ErrUnsupported.
package vhostuser
