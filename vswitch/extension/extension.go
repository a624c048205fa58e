package extension

import (
	"errors"

	"github.com/hvswitch/hvswitch/ports"
)

// Capture is implemented by extensions that see frames and alter nothing: neither the frames nor what
// becomes of them.
//
// On ingress it is called with what came from the port, before anything else has looked at it. Frames that
// are no frames, such as those shorter than an Ethernet header, are dropped already then. On egress it is
// called with what is about to be sent to the port, tagged as it leaves.
type Capture interface {
	Capture(b *Batch)
}

// Fates is implemented by captures that want to know what became of the frames. For each batch Fate is
// called once, after Capture and on the same goroutine, with the same frames at the same places: on
// ingress when each has been dropped or is about to be sent, on egress when each has been dropped
// or sent. Among them are frames that were dropped before Capture would have seen them; where all were,
// Capture is not called.
type Fates interface {
	Fate(b *Batch)
}

// Filter is implemented by extensions that drop and edit frames.
type Filter interface {
	Filter(b *Batch)
}

// Forwarding is implemented by an extension that decides where frames go: by Batch.Send. What
// it leaves alone the switch forwards, by its forwarding database.
type Forwarding interface {
	Forward(b *Batch)
}

// Firewall is implemented by extensions that allow or deny connections.
type Firewall interface {
	// Authorize reports whether a connection may be. It is called for the first packet of each
	// flow at a port, and again when the answer has been forgotten: after some minutes without a packet,
	// under pressure, or after Switch.Reauthorize. A packet in the other direction at the same
	// port belongs to the same flow.
	Authorize(c *Connection) bool
}

// Lifecycle is implemented by extensions that want to know the ports, or keep something for each.
// Calls for one switch come one at a time. They must not block and must not call the switch.
type Lifecycle interface {
	// Connect is called before a port is connected. An error keeps it from being connected
	// and is part of the error that the caller of the switch gets; ErrSkip lets it be connected without the extension seeing
	// its frames. state is what Batch.State returns for the port.
	Connect(p *Port) (state any, err error)

	// Change is called before the settings of a connected port change. An error keeps them as they are.
	Change(old, new *Port, state any) error

	// Disconnect is called when no frame of the port is under way any more. It is called as well for
	// a port whose Connect was granted and that could not be connected for another reason.
	Disconnect(p *Port, state any)
}

// Mover is implemented by extensions with a Lifecycle whose state goes with a VM that moves to another host.
type Mover interface {
	// Save returns the state of a port in a form that Restore understands.
	Save(p *Port, state any) ([]byte, error)

	// Restore is called in place of Connect, with what Save returned elsewhere.
	Restore(p *Port, saved []byte) (state any, err error)
}

// Starter is implemented by extensions that want to know their switch, to inject frames for example.
type Starter interface {
	// Start is called when the extension is added to a switch, before its ports. An error keeps
	// it from being added.
	Start(s Switch) error

	// Stop is called when it has been removed, after its last port.
	Stop(s Switch)
}

// Switch is a switch as its extensions see it.
type Switch interface {
	Name() string

	// Inject puts a copy of a frame into the switch, as if it had come by no port: it passes
	// the filters behind the caller, no policy of a source port, and forwarding. Any goroutine
	// may call it. It returns an error when the frame is no frame or the queue is full.
	Inject(f *ports.Frame) error

	// Reauthorize makes firewalls be asked again for every connection.
	Reauthorize()
}

// ErrSkip is returned by Lifecycle.Connect for ports whose frames the extension does not want to see.
var ErrSkip = errors.New("the extension does not want to see the port")

// Binding is an extension in the list of a switch.
type Binding struct {
	// Name is what errors, logs, statistics and drop reasons call it. It is unique in the list.
	Name string

	// Extension implements at least one of Capture, Filter, Forwarding and Firewall.
	Extension any

	// Disabled keeps it in the list without effect.
	Disabled bool

	// FailOpen lets frames pass without the extension after it has panicked. By default filters,
	// forwarding and firewalls that have panicked let none pass, and captures all.
	FailOpen bool
}

// PortKind says what a port belongs to.
type PortKind uint8

// Kinds of ports.
const (
	VNIC       PortKind = iota // of a VM
	Management                 // a vNIC of the host
	Uplink                     // a physical NIC or a team
)

// String returns "vNIC", "management vNIC" or "uplink".
func (k PortKind) String() string {
	return [...]string{"vNIC", "management vNIC", "uplink"}[k]
}

// Port is a port of a switch. It is not changed: a port with other settings is another Port, with the
// same Index.
type Port struct {
	Switch string // its name
	Name   string // of the vNIC or NIC
	ID     string // of the vNIC; empty for an uplink
	Kind   PortKind
	MAC    ports.MAC // of the vNIC; zero for an uplink
	MTU    int       // bytes behind the Ethernet header
	Speed  uint64    // bit/s; 0 when not known
	Index  int       // its own on the switch while it is connected, small; others have it later
}
