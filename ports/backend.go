package ports

import "errors"

// Backend is a device that carries frames: one end of a cable. A switch port, a team member and an
// overlay uplink is each a Backend.
//
// A backend has receive and transmit queues. Each queue is used by one goroutine at a time, different
// queues by different goroutines at once. The methods of Backend itself may be called from any
// goroutine.
//
// A receive queue also implements Notifier or Pollable, so that many can be waited for at once. A
// backend whose link can go down implements LinkWatcher; any other is always up.
type Backend interface {
	// Info describes the backend. Its values do not change while the backend is open.
	Info() Info

	// Rx returns receive queue i, 0 ≤ i < Info().RxQueues; each call the same one.
	Rx(i int) RxQueue

	// Tx returns transmit queue i, 0 ≤ i < Info().TxQueues; each call the same one.
	Tx(i int) TxQueue

	// Close releases what the backend holds. It may be called while other methods run: they
	// return ErrClosed from then on. The caller sees to it that no frame lent by Recv is in
	// use any more. A second call does nothing and returns nil.
	Close() error
}

// Info describes a Backend.
type Info struct {
	// Name is what an operator knows the device by, such as tap0; may be empty.
	Name string

	// MAC is the device's own address; zero when it has none.
	MAC MAC

	// MTU is the longest payload behind an Ethernet header (and tag) that one frame on the
	// wire carries, in bytes. A frame that asks for segmentation may be longer.
	MTU int

	// RxQueues and TxQueues are at least 1.
	RxQueues, TxQueues int

	// Offloads is what Send accepts. What a receive queue delivers is the sender's choice.
	Offloads Offloads
}

// RxQueue lends received frames.
type RxQueue interface {
	// Recv adds to b frames that have arrived, as many as there are or as b has room for, and
	// never blocks. The frames are valid until Release. An error says that the queue is dead;
	// it is ErrClosed after Close. Frames may have been added nevertheless.
	Recv(b *Batch) error

	// Release takes back every frame lent since the last Release.
	Release()
}

// TxQueue sends frames.
type TxQueue interface {
	// Send copies frames to the device in their order, without blocking, and returns how many
	// it took from the front. The frames are not kept or changed.
	//
	// n < len(frames) with a nil error says that the device has no room for frames[n] now.
	// With an error it says that frames[n] was refused for that reason. ErrLinkDown, which is
	// also the answer of a device that has gone, and ErrClosed concern all frames; any other,
	// such as ErrFrameSize and ErrOffload, that frame alone, and the caller may go on behind it.
	Send(frames []*Frame) (n int, err error)
}

// Notifier is implemented by queues in memory. For a receive queue the event is that a frame has
// arrived; for a transmit queue, which may implement it too, that there is room.
type Notifier interface {
	// SetBell sets the function that is called on the event, or none with nil. It is called on
	// the goroutine of the other side, must not block and must not use the queue. When SetBell
	// returns, the former bell may still be running.
	SetBell(ring func())

	// Arm asks that the bell be rung once on the next event. It returns true, and asks for
	// nothing, when there is no need to wait: frames are there, there is room, or the queue is
	// closed. The bell may ring all the same then.
	Arm() bool
}

// Pollable is implemented by receive queues that are a non-blocking file descriptor of a Unix
// system. The queue is worth receiving from while the descriptor is readable.
type Pollable interface {
	// Descriptor returns the file descriptor, which is valid until Close. Close does not wake
	// who waits for it: stop waiting first.
	Descriptor() int
}

// Discarder is implemented by receive queues, Pollable ones above all, that may take frames off their device
// without lending them, as a team takes copies of what it has received by another member. A descriptor that
// was readable for these was not readable in vain, so whoever waits for it has no reason to leave it alone for
// a while.
type Discarder interface {
	// Discarded returns how many frames Recv has taken and not lent so far. It is called by whoever
	// calls Recv.
	Discarded() uint64
}

// Link is the state of a backend's link.
type Link struct {
	Up    bool
	Speed uint64 // bit/s; 0 when not known
}

// LinkWatcher is implemented by backends that know the state of their link.
type LinkWatcher interface {
	// Link returns the state now.
	Link() Link

	// WatchLink sets the function that is called after each change with the new state, or none
	// with nil. It may call Link and must not block.
	WatchLink(changed func(Link))
}

// Errors of queues.
var (
	ErrClosed    = errors.New("backend is closed")
	ErrLinkDown  = errors.New("link is down")
	ErrFrameSize = errors.New("frame does not fit the MTU")
	ErrOffload   = errors.New("offload request is not supported")
)

// LinkOf returns the state of b's link; that of a backend which does not implement LinkWatcher is
// always up.
func LinkOf(b Backend) Link {
	if w, ok := b.(LinkWatcher); ok {
		return w.Link()
	}
	return Link{Up: true}
}
