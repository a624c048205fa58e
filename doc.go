// Package hvswitch is the map of a virtual switch for hypervisors and VMMs: a library that forwards
// the frames of virtual machines inside the VMM's own process, on Linux, with no kernel module and
// no daemon.
//
// Import the package that does what you need:
//
//   - [github.com/hvswitch/hvswitch/vswitch] is the switch: a host with external, internal and
//     private switches, vNICs, management vNICs and uplinks. Most programs need this one and a
//     backend.
//   - [github.com/hvswitch/hvswitch/vswitch/acl] is the access control of a vNIC: rules and tracked
//     connections.
//   - [github.com/hvswitch/hvswitch/vswitch/extension] is how your own code takes part in a switch:
//     captures, filters, firewalls, forwarding.
//   - [github.com/hvswitch/hvswitch/vswitch/capture] is live capture in pcapng,
//     [github.com/hvswitch/hvswitch/vswitch/sflow] and [github.com/hvswitch/hvswitch/vswitch/ipfix]
//     export samples and flows to collectors.
//   - [github.com/hvswitch/hvswitch/vlan] is what VLANs and private VLANs mean: tags, sets of ids and
//     port modes, usable without the switch.
//   - [github.com/hvswitch/hvswitch/team] is several NICs as one, a backend over backends;
//     [github.com/hvswitch/hvswitch/team/lacp] is the protocol.
//   - [github.com/hvswitch/hvswitch/overlay] is virtual networks: NVGRE, VXLAN and Geneve, lookup records
//     and the distributed router, as an engine usable without the switch;
//     [github.com/hvswitch/hvswitch/overlay/store] brings policy to it.
//   - [github.com/hvswitch/hvswitch/qos] is token buckets and a scheduler of minimum and maximum
//     bandwidth, usable without the switch.
//   - [github.com/hvswitch/hvswitch/ports] is the contract between the switch and the devices that
//     carry its frames, and Pipe, a cable in memory for guests in the same process and for tests.
//   - [github.com/hvswitch/hvswitch/ports/tap] is the backend for the kernel's TAP devices.
//   - [github.com/hvswitch/hvswitch/ports/afpacket] is the backend for network interfaces of the
//     host, by AF_PACKET.
//   - [github.com/hvswitch/hvswitch/ports/vhostuser] is the backend for the cards of virtual machines: the
//     device end of the vhost-user protocol.
//   - [github.com/hvswitch/hvswitch/ports/sock] is the backend for QEMU's stream and dgram netdevs and
//     vfkit's datagrams, over Unix sockets.
//   - [github.com/hvswitch/hvswitch/ports/portstest] checks that a backend of your own keeps the
//     contract.
//
// The module builds on every system; what needs Linux says so with one error.
//
// The package itself has no code.
package hvswitch
