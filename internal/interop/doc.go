// Package interop holds the switch against programs that nobody here wrote: DHCP and router daemons
// behind guards, the kernel's own TCP, UDP and ICMP through a stateful ACL and over teams that lose cables,
// and Open vSwitch and the kernel at the other end of a virtual subnet. It has tests only.
//
// On Linux, as root, each guest is a network namespace with one TAP on a switch:
//
//	go test -v ./internal/interop
//
// The namespaces have no names. They belong to threads of the test and its programs end with it, so
// that nothing is left of it, however it ends. The network of the machine itself is not touched.
package interop
