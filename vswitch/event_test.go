package vswitch_test

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/vswitch"
)

// eventbook keeps what happened.
type eventbook struct {
	mu     sync.Mutex
	events []vswitch.Event
}

func (b *eventbook) add(e vswitch.Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.events = append(b.events, e)
}

// take returns what has happened since the last call.
func (b *eventbook) take(l *lab) []vswitch.Event {
	l.settle()
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.events
	b.events = nil
	return e
}

// protectedLab is an external switch with vm0, vm1 and vm2, of which the last two are protected.
func protectedLab(t *testing.T) (l *lab, book *eventbook, wire *station, vm []*station) {
	book = new(eventbook)
	l = newLabWith(t, vswitch.HostConfig{Events: book.add})
	wire = l.nic("eth0")
	l.newSwitch("lab", vswitch.SwitchConfig{Type: vswitch.External, Uplink: "eth0"})
	vm = l.guests(3)
	for _, s := range vm[1:] {
		s.reconfigure(func(c *vswitch.VNICConfig) { c.ProtectedNetwork = true })
	}
	return l, book, wire, vm
}

func lost(protected ...string) []vswitch.Event {
	return []vswitch.Event{{Kind: vswitch.UplinkLost, Switch: "lab", NIC: "eth0", Protected: protected}}
}

func restored(protected ...string) []vswitch.Event {
	return []vswitch.Event{{Kind: vswitch.UplinkRestored, Switch: "lab", NIC: "eth0", Protected: protected}}
}

func TestALostUplinkIsToldWithTheProtectedVNICs(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, book, wire, vm := protectedLab(t)
		require.Empty(t, book.take(l))
		for range 2 {
			wire.end.SetLink(false)
			wire.end.SetLink(false)
			require.Equal(t, lost("vm1", "vm2"), book.take(l))
			wire.end.SetLink(true)
			wire.end.SetLink(true)
			require.Equal(t, restored("vm1", "vm2"), book.take(l))
		}
		require.Equal(t, "uplink lost", vswitch.UplinkLost.String())
		require.Equal(t, "uplink restored", vswitch.UplinkRestored.String())

		vm[1].reconfigure(func(c *vswitch.VNICConfig) { c.Switch = "" })
		vm[2].reconfigure(func(c *vswitch.VNICConfig) { c.ProtectedNetwork = false })
		wire.end.SetLink(false)
		require.Equal(t, lost(), book.take(l), "one is not connected, one not protected any more")
		vm[1].reconfigure(func(c *vswitch.VNICConfig) { c.Switch = "lab" })
		require.Empty(t, book.take(l))
		wire.end.SetLink(true)
		require.Equal(t, restored("vm1"), book.take(l))
	})
}

func TestTheEndOfAnUplinkIsToldOnce(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, book, wire, _ := protectedLab(t)
		require.NoError(t, wire.end.Close())
		require.Equal(t, lost("vm1", "vm2"), book.take(l))
	})
	t.Run("a queue fails", func(t *testing.T) {
		inBubble(t, func(t *testing.T) {
			book := new(eventbook)
			l := newLabWith(t, vswitch.HostConfig{Events: book.add})
			broken := newStub()
			_, err := l.host.AddNIC("eth0", broken)
			require.NoError(t, err)
			l.newSwitch("lab", vswitch.SwitchConfig{Type: vswitch.External, Uplink: "eth0"})
			l.guest("vm0", vswitch.VNICConfig{Switch: "lab", ProtectedNetwork: true})
			require.Empty(t, book.take(l))
			broken.arrive(errors.New("ring is corrupt"))
			require.Equal(t, lost("vm0"), book.take(l))
		})
	})
}

func TestLinksOfGuestsAndChangesOfSettingsAreNoEvents(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		book := new(eventbook)
		l := newLabWith(t, vswitch.HostConfig{Events: book.add})
		wire := l.nic("eth0")
		l.newSwitch("lab", vswitch.SwitchConfig{Type: vswitch.Internal})
		vm := l.guest("vm0", vswitch.VNICConfig{Switch: "lab", ProtectedNetwork: true})
		for _, up := range []bool{false, true} {
			vm.end.SetLink(up)
			wire.end.SetLink(up) // not an uplink
		}
		l.reconfigure(func(c *vswitch.SwitchConfig) { c.Type, c.Uplink = vswitch.External, "eth0" })
		l.reconfigure(func(c *vswitch.SwitchConfig) { c.Type, c.Uplink = vswitch.Internal, "" })
		wire.end.SetLink(false)
		require.Empty(t, book.take(l))
	})
}

func TestLinkEventsAndChangesDoNotWaitForEachOther(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, book, wire, vm := protectedLab(t)
		var both sync.WaitGroup
		for range 2 {
			both.Go(func() {
				for i := range 200 {
					wire.end.SetLink(i%2 == 1)
				}
			})
		}
		both.Go(func() {
			for i := range 200 {
				vm[0].reconfigure(func(c *vswitch.VNICConfig) { c.ProtectedNetwork = i%2 == 0 })
				if i%20 == 0 {
					vm[1].reconfigure(func(c *vswitch.VNICConfig) { c.Switch = "" })
					vm[1].reconfigure(func(c *vswitch.VNICConfig) { c.Switch = "lab" })
				}
			}
		})
		done := make(chan struct{})
		go func() { both.Wait(); close(done) }()
		select {
		case <-done:
		case <-time.After(patience):
			require.Fail(t, "deadlock")
		}
		wire.end.SetLink(true)
		events := book.take(l)
		for i, e := range events {
			require.Equal(t, []vswitch.EventKind{vswitch.UplinkLost, vswitch.UplinkRestored}[i%2], e.Kind, "events alternate")
			require.Contains(t, e.Protected, "vm2")
		}
		require.Zero(t, len(events)%2, "the last one tells that the link is up")
	})
}
