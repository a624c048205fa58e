// Package vswitch is a virtual Ethernet switch for the inside of a VMM.
//
// A Host holds switches, the physical NICs that are their uplinks, and the vNICs of VMs and of the
// host itself. A vNIC names the switch it belongs to; what carries its frames is a ports.Backend: a
// TAP, a pipe in memory, a device of the VMM's own.
//
//	host, err := vswitch.NewHost(nil)
//	sw, err := host.NewSwitch("lab", nil) // private: VMs only
//	vm1, err := host.NewVNIC("vm1", backend, &vswitch.VNICConfig{Switch: "lab"})
//
// Everything can be changed while traffic flows, and each change takes effect as a whole: a frame
// sees the old configuration or the new one.
//
// # The way of a frame
//
// A worker receives a batch of frames from a queue (worker.go) and runs it through the pipeline that
// was compiled from the settings of the port (pipeline.go): the frames are classified (classify.go) and
// assigned to VLANs (vlans.go), their sources checked (source.go, guest_team.go), guards (guards.go) and the vNIC's
// ACL (access.go) asked, their sources learned (learn.go), their destinations found (forward.go) in
// the forwarding database (fdb.go). Then they are grouped by destination, given the tag with which they
// leave and judged by the ACL there, and each group is copied into its destination in one call
// (deliver.go), or one for each queue where the flows of a vNIC are spread (rss.go), flooded frames into
// many (flood.go); what a destination cannot do for a frame is done in software (adapt.go). A frame that
// is dropped on this way counts under one reason (drop.go). What the stages see of the configuration
// never changes under them (snapshot.go). Which worker serves a queue follows the load (balance.go).
//
// A vNIC with a VSID is in no VLAN: behind the ACL its frames go to the overlay of the switch (overlay.go)
// in place of the forwarding database, and so do those that the uplink gets for a provider address. What
// the overlay makes of them is delivered like other frames (overlay_deliver.go).
//
// A vNIC that has sent its maximum bandwidth is not received from for a while (maximum.go). At an uplink that
// divides its bandwidth, frames that cannot be sent at once wait for their turn (scheduler.go, minimum.go); a
// worker comes back for both when it is time (alarm.go).
//
// A guest is taken to be hostile: its frames are checked on memory it cannot change, what it can make
// the switch remember is bounded, and a guest that does not receive hurts only itself.
//
// The package configures nothing of the operating system, keeps no global state and starts goroutines
// only for a Host, which Close ends.
package vswitch
