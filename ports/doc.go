// Package ports is the contract between a virtual switch and the devices that carry its frames.
//
// A Frame is a private head and a borrowed body, with its VLAN tag and offload request beside the
// bytes. A Backend is one end of a cable: receive queues that lend batches of frames without
// blocking, transmit queues that copy frames away. Pipe is the backend in memory; its sub-packages
// are the others. A VMM that has a device of its own implements Backend and runs portstest.
//
// The package knows nothing of switching; package vswitch does that.
package ports
