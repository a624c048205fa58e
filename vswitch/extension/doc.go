// Package extension is how code of third parties takes part in a switch.
//
// An extension is of one or more of four kinds, by the methods it has:
//
//   - Capture sees frames and alters nothing.
//   - Filter may drop and edit frames, and inject others.
//   - Forwarding decides where frames go, in place of the switch. A switch has at most one.
//   - Firewall allows or denies connections. It is asked once for each.
//
// A switch is given a list of them (vswitch.SwitchConfig.Extensions), which may be changed while traffic
// flows: every frame passes by the old list or the new one. In the order of the list, and of kinds
// first, a frame that comes from a port passes
//
//	captures → filters → firewalls → policy of the source port → forwarding
//
// and for each port it goes to, in the reverse order of the list,
//
//	policy of the destination port → firewalls → filters → captures
//
// where the policies are what the vNIC is configured for: VLAN, addresses, guards, ACL.
//
// Extensions work on batches. A filter that blocks a protocol:
//
//	func (f *noTelnet) Filter(b *extension.Batch) {
//		for i := range b.Len() {
//			if b.Alive(i) && telnet(b.Frame(i)) {
//				b.Drop(i, "telnet")
//			}
//		}
//	}
//
// Several workers of a switch call an extension at once, for different frames. A panic of an extension
// disables it and is reported; whether frames then pass without it, or none passes, is its
// Binding's choice.
package extension
