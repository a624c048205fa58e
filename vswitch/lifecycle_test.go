package vswitch_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vswitch"
)

func TestAnUplinkBelongsToOneSwitch(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, wire, vm := externalLab(t, 1)
		_, err := l.host.NewSwitch("other", &vswitch.SwitchConfig{Type: vswitch.External, Uplink: "eth0"})
		require.ErrorIs(t, err, vswitch.ErrInUse)
		require.EqualError(t, err, `switch "other": uplink "eth0" is bound to switch "lab": in use`)
		require.Nil(t, l.host.Switch("other"))

		other := l.newSwitch("other", vswitch.SwitchConfig{})
		err = other.SetConfig(vswitch.SwitchConfig{Type: vswitch.External, Uplink: "eth0"})
		require.ErrorIs(t, err, vswitch.ErrInUse)
		require.ErrorContains(t, err, `"lab"`)
		require.Equal(t, vswitch.Private, other.Config().Type)

		require.Same(t, l.sw(), wire.nic.Switch())
		vm[0].send(ports.Broadcast, "still there")
		l.everyoneGot([]string{"still there"}, wire)

		become(l, vswitch.Private)
		require.Nil(t, wire.nic.Switch())
		require.NoError(t, other.SetConfig(vswitch.SwitchConfig{Type: vswitch.External, Uplink: "eth0"}))
		require.Same(t, other, wire.nic.Switch())
	})
}

func TestAnUplinkIsExchangedWhileVMsTalk(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, eth0, vm := externalLab(t, 3)
		eth1 := l.nic("eth1")
		eth0.sendAs(stranger(1), vm[0].mac, "hello")
		l.settle()
		drain(vm...)
		traffic := l.flow(vm[0], vm[1])
		for i := range 20 {
			to := []*station{eth1, eth0}[i%2]
			traffic.goOn(50)
			l.reconfigure(func(c *vswitch.SwitchConfig) { c.Uplink = to.nic.Name() })
			require.Same(t, l.sw(), to.nic.Switch())
		}
		require.Nil(t, eth1.nic.Switch())
		traffic.stop()

		require.False(t, isKnown(vm[2], stranger(1)), "what was behind the old uplink is forgotten")
		l.everyoneGot([]string{"are you there?"}, eth0)
		l.nobodyGot(eth1)
		require.NoError(t, eth1.nic.Close())
		require.True(t, isClosed(eth1.end))
	})
}

func TestANICThatIsAnUplinkCannotBeRemoved(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, wire, _ := externalLab(t, 1)
		err := wire.nic.Close()
		require.ErrorIs(t, err, vswitch.ErrInUse)
		require.EqualError(t, err, `NIC "eth0": is the uplink of switch "lab": in use`)
		require.False(t, isClosed(wire.end))

		require.NoError(t, l.sw().Close())
		require.NoError(t, wire.nic.Close())
		require.Empty(t, l.host.NICs())
		l.nic("eth0")
	})
}

func TestNamesAreUnique(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, _, _ := externalLab(t, 1)
		a, b := l.pipe(ports.PipeConfig{})
		_, err := l.host.NewSwitch("lab", nil)
		require.ErrorIs(t, err, vswitch.ErrExists)
		require.EqualError(t, err, `switch "lab": already exists`)
		for _, name := range []string{"vm0", "eth0"} {
			_, err = l.host.NewVNIC(name, a, nil)
			require.ErrorIs(t, err, vswitch.ErrExists)
			require.ErrorContains(t, err, fmt.Sprintf("vNIC %q", name))
			_, err = l.host.AddNIC(name, a)
			require.ErrorIs(t, err, vswitch.ErrExists)
			require.ErrorContains(t, err, fmt.Sprintf("NIC %q", name))
		}
		for _, name := range []string{"", string(make([]byte, 256))} {
			_, err = l.host.NewSwitch(name, nil)
			require.ErrorIs(t, err, vswitch.ErrInvalid)
			_, err = l.host.NewVNIC(name, a, nil)
			require.ErrorIs(t, err, vswitch.ErrInvalid)
			_, err = l.host.AddNIC(name, a)
			require.ErrorIs(t, err, vswitch.ErrInvalid)
		}
		require.False(t, isClosed(b), "what is refused stays the caller's")
		a.Close()

		require.NoError(t, l.host.VNIC("vm0").Close())
		require.NoError(t, l.sw().Close())
		l.newSwitch("lab", vswitch.SwitchConfig{})
		l.guest("vm0", vswitch.VNICConfig{Switch: "lab"})
	})
}

func TestEverythingIsFoundByNameAndInOrder(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l := newLab(t)
		for _, name := range []string{"b", "c", "a"} {
			l.newSwitch(name, vswitch.SwitchConfig{})
			l.guest("vm "+name, vswitch.VNICConfig{})
			l.nic("eth " + name)
		}
		var names []string
		for _, s := range l.host.Switches() {
			names = append(names, s.Name())
			require.Same(t, s, l.host.Switch(s.Name()))
		}
		for _, v := range l.host.VNICs() {
			names = append(names, v.Name())
			require.Same(t, v, l.host.VNIC(v.Name()))
		}
		for _, n := range l.host.NICs() {
			names = append(names, n.Name())
			require.Same(t, n, l.host.NIC(n.Name()))
		}
		require.Equal(t, []string{"a", "b", "c", "vm a", "vm b", "vm c", "eth a", "eth b", "eth c"}, names)
		require.Nil(t, l.host.Switch("d"))
		require.Nil(t, l.host.VNIC("a"))
		require.Nil(t, l.host.NIC("a"))
	})
}

func TestAnUnknownUplinkIsRefused(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l := newLab(t)
		_, err := l.host.NewSwitch("lab", &vswitch.SwitchConfig{Type: vswitch.External, Uplink: "eth7"})
		require.ErrorIs(t, err, vswitch.ErrNotFound)
		require.EqualError(t, err, `switch "lab": uplink "eth7": NIC not found`)
		l.guest("vm0", vswitch.VNICConfig{})
		_, err = l.host.NewSwitch("lab", &vswitch.SwitchConfig{Type: vswitch.External, Uplink: "vm0"})
		require.ErrorIs(t, err, vswitch.ErrNotFound, "a vNIC is no uplink")
	})
}

func TestAVNICWaitsForItsSwitch(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l := newLab(t)
		vm := l.guests(2)
		require.False(t, vm[0].vnic.Connected())
		vm[0].send(vm[1].mac, "too early, but not lost")
		l.nobodyGot(vm...)

		l.newSwitch("other", vswitch.SwitchConfig{})
		require.False(t, vm[0].vnic.Connected())
		l.newSwitch("lab", vswitch.SwitchConfig{})
		require.True(t, vm[0].vnic.Connected())
		require.True(t, vm[1].vnic.Connected())
		l.everyoneGot([]string{"too early, but not lost"}, vm[1])

		require.NoError(t, l.sw().Close())
		require.False(t, vm[0].vnic.Connected())
		require.Equal(t, "lab", vm[0].vnic.Config().Switch)
		l.newSwitch("lab", vswitch.SwitchConfig{})
		vm[1].send(vm[0].mac, "again")
		l.everyoneGot([]string{"again"}, vm[0])
	})
}

func TestAVNICMovesBetweenSwitches(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, vm := privateLab(t, 3)
		l.newSwitch("other", vswitch.SwitchConfig{})
		far := l.guest("far", vswitch.VNICConfig{Switch: "other"})
		vm[0].reconfigure(func(c *vswitch.VNICConfig) { c.Switch = "other" })
		vm[0].send(ports.Broadcast, "over here")
		l.everyoneGot([]string{"over here"}, far)
		l.nobodyGot(vm...)
		require.False(t, isKnown(vm[1], vm[0].mac))
		l.everyoneGot([]string{"are you there?"}, vm[2])

		vm[0].reconfigure(func(c *vswitch.VNICConfig) { c.Switch = "" })
		require.False(t, vm[0].vnic.Connected())
		vm[0].reconfigure(func(c *vswitch.VNICConfig) { c.Switch = "lab" })
		vm[1].send(vm[0].mac, "home again")
		l.everyoneGot([]string{"home again"}, vm[0])
		require.EqualValues(t, 1, vm[0].stats().RxFrames, "counters go with the vNIC")
	})
}

func TestAVMMovesBetweenHosts(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		pool := func(n byte) vswitch.HostConfig {
			return vswitch.HostConfig{MACPool: vswitch.MACRange{First: ports.MAC{2, 0, 0, 0, n, 0}, Last: ports.MAC{2, 0, 0, 0, n, 9}}}
		}
		one, two := newLabWith(t, pool(1)), newLabWith(t, pool(2))
		there, here := one.nic("eth0"), two.nic("eth0")
		// The wire between the hosts.
		for _, hop := range [][2]*station{{there, here}, {here, there}} {
			go func() {
				buf := make([]byte, 2048)
				for {
					n, err := hop[0].end.ReadFrame(t.Context(), buf)
					if err != nil || hop[1].end.WriteFrame(t.Context(), buf[:n]) != nil {
						return
					}
				}
			}()
		}
		for _, l := range []*lab{one, two} {
			l.newSwitch("lab", vswitch.SwitchConfig{Type: vswitch.External, Uplink: "eth0"})
		}
		web := one.guest("web", vswitch.VNICConfig{Switch: "lab"})
		db := one.guest("db", vswitch.VNICConfig{Switch: "lab", Notes: "the database"})
		web.send(db.mac, "on one host")
		one.everyoneGot([]string{"on one host"}, db)

		c := db.vnic.Config()
		c.MAC = db.mac
		require.NoError(t, db.vnic.Close())
		moved := two.guest("db", c)
		require.Equal(t, c.ID, moved.vnic.ID())
		require.Equal(t, db.mac, moved.vnic.MAC())
		require.Equal(t, "the database", moved.vnic.Config().Notes)

		web.send(db.mac, "on two hosts")
		two.everyoneGot([]string{"on two hosts"}, moved)
		moved.send(web.mac, "I moved")
		one.everyoneGot([]string{"I moved"}, web)
	})
}

func TestIDsAreStableAndDiffer(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, _, vm := externalLab(t, 3)
		ids := map[string]bool{l.sw().ID(): true}
		for _, v := range vm {
			ids[v.vnic.ID()] = true
			require.NotEmpty(t, v.vnic.ID())
		}
		require.Len(t, ids, 4)
		id, vid := l.sw().ID(), vm[0].vnic.ID()
		become(l, vswitch.Private)
		vm[0].reconfigure(func(c *vswitch.VNICConfig) { c.Switch = "elsewhere" })
		require.Equal(t, id, l.sw().ID())
		require.Equal(t, vid, vm[0].vnic.ID())

		require.NoError(t, l.sw().SetConfig(vswitch.SwitchConfig{Notes: "no ID given means the present one"}))
		require.NoError(t, vm[0].vnic.SetConfig(vswitch.VNICConfig{}))
		require.Equal(t, id, l.sw().ID())
		require.Equal(t, vid, vm[0].vnic.ID())

		chosen := l.newSwitch("chosen", vswitch.SwitchConfig{ID: "7d3ad4b6"})
		require.Equal(t, "7d3ad4b6", chosen.ID())
		require.Equal(t, "f00", l.guest("vm9", vswitch.VNICConfig{ID: "f00"}).vnic.ID())
	})
}

func TestWhatIsClosedStaysClosed(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, wire, vm := externalLab(t, 2)
		sw := l.sw()
		require.NoError(t, vm[0].vnic.Close())
		require.True(t, isClosed(vm[0].end))
		require.NoError(t, vm[0].vnic.Close())
		require.ErrorIs(t, vm[0].vnic.SetConfig(vswitch.VNICConfig{}), vswitch.ErrClosed)
		require.False(t, vm[0].vnic.Connected())
		require.Nil(t, l.host.VNIC("vm0"))

		require.NoError(t, sw.Close())
		require.NoError(t, sw.Close())
		require.ErrorIs(t, sw.SetConfig(vswitch.SwitchConfig{}), vswitch.ErrClosed)
		require.Nil(t, l.host.Switch("lab"))
		require.Empty(t, sw.Stats().Ports)
		require.Empty(t, sw.Addresses())
		require.ErrorIs(t, sw.AddAddress(stranger(1), 0, "vm1"), vswitch.ErrNotFound)
		require.False(t, isClosed(vm[1].end), "a switch does not own its vNICs")

		require.NoError(t, wire.nic.Close())
		require.NoError(t, wire.nic.Close())

		again := l.guest("vm0", vswitch.VNICConfig{})
		require.NoError(t, vm[0].vnic.Close(), "the vNIC of the same name is another")
		require.False(t, isClosed(again.end))

		require.NoError(t, l.host.Close())
		require.NoError(t, l.host.Close())
		require.True(t, isClosed(vm[1].end))
		require.ErrorIs(t, vm[1].vnic.SetConfig(vswitch.VNICConfig{}), vswitch.ErrClosed)
		_, err := l.host.NewSwitch("late", nil)
		require.ErrorIs(t, err, vswitch.ErrClosed)
		a, _ := l.pipe(ports.PipeConfig{})
		_, err = l.host.NewVNIC("late", a, nil)
		require.ErrorIs(t, err, vswitch.ErrClosed)
		_, err = l.host.AddNIC("late", a)
		require.ErrorIs(t, err, vswitch.ErrClosed)
		a.Close()
		require.Empty(t, l.host.Switches())
		require.Empty(t, l.host.VNICs())
		require.Empty(t, l.host.NICs())
	})
}

func TestEverythingClosesInAnyOrderUnderTraffic(t *testing.T) {
	rounds := 100
	if hurried() {
		rounds = 20
	}
	for seed := range rounds {
		inBubble(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(uint64(seed), 1))
			l, wire, vm := externalLab(t, 6)
			host, sw := l.management("host"), l.sw()
			things := []func() error{sw.Close, l.host.Close, func() error {
				if err := wire.nic.Close(); !errors.Is(err, vswitch.ErrInUse) {
					return err
				}
				return nil
			}}
			for _, s := range append(vm, host) {
				things = append(things, s.vnic.Close, s.end.Close)
			}
			things = append(things, things...)
			rng.Shuffle(len(things), func(i, j int) { things[i], things[j] = things[j], things[i] })

			var busy, closing sync.WaitGroup
			for _, s := range append(vm, wire, host) {
				busy.Go(func() { // talks until the cable is pulled
					to := []ports.MAC{ports.Broadcast, vm[0].mac, vm[1].mac, stranger(1)}
					for i := 0; s.end.WriteFrame(t.Context(), frame(to[i%4], s.mac, "blah")) == nil; i++ {
						if i%50 == 49 {
							time.Sleep(time.Microsecond)
						}
					}
				})
				busy.Go(func() {
					buf := make([]byte, 2048)
					for {
						if _, err := s.end.ReadFrame(t.Context(), buf); err != nil {
							return
						}
					}
				})
			}
			time.Sleep(time.Microsecond)
			for i := range 3 {
				closing.Go(func() {
					for j := i; j < len(things); j += 3 {
						if err := things[j](); err != nil {
							t.Errorf("seed %d: %v", seed, err)
						}
						sw.Stats()
						sw.Addresses()
						l.host.VNICs()
					}
				})
			}
			closing.Wait()
			busy.Wait()
		})
	}
}

// watchful is an endless backend that sees who uses it when.
type watchful struct {
	endlessStub
	inUse  atomic.Int64 // Recv without Release, and Send
	closed atomic.Bool
	late   atomic.Int64 // uses at or after Close
}

func (w *watchful) use(n int64) {
	w.inUse.Add(n)
	if w.closed.Load() {
		w.late.Add(1)
	}
}

func (w *watchful) Rx(int) ports.RxQueue { return w }
func (w *watchful) Tx(int) ports.TxQueue { return w }
func (w *watchful) Recv(b *ports.Batch) error {
	w.use(1)
	return w.endlessStub.Recv(b)
}

func (w *watchful) Release() { w.use(-1) }
func (w *watchful) Send(frames []*ports.Frame) (int, error) {
	w.use(1)
	runtime.Gosched()
	w.use(-1)
	return len(frames), nil
}

func (w *watchful) Close() error {
	w.closed.Store(true)
	w.late.Add(w.inUse.Load())
	return nil
}

func TestNobodyUsesABackendThatHasBeenClosed(t *testing.T) {
	h := silentHost(t)
	newWatchful := func(name string, mac ports.MAC) (*watchful, *vswitch.VNIC) {
		w := &watchful{endlessStub: endlessStub{newStub()}}
		for range 32 {
			w.arrived = append(w.arrived, newFrame(frame(ports.Broadcast, mac, "blah")))
		}
		v, err := h.NewVNIC(name, w, &vswitch.VNICConfig{Switch: "lab", MAC: mac})
		require.NoError(t, err)
		return w, v
	}
	newWatchful("other", stranger(0))
	rounds := 300
	if hurried() {
		rounds = 50
	}
	for range rounds {
		w, v := newWatchful("temporary", stranger(1))
		for v.Stats().TxFrames == 0 || v.Stats().RxFrames == 0 {
			runtime.Gosched()
		}
		require.NoError(t, v.Close())
		for range 10 {
			runtime.Gosched()
		}
		require.Zero(t, w.late.Load())
	}
}

func TestAHostClosesAtTheMomentItCleansUp(t *testing.T) {
	hang := time.AfterFunc(20*time.Second, func() { panic("Host.Close waits for itself") })
	defer hang.Stop()
	inBubble(t, func(t *testing.T) {
		var hosts []*vswitch.Host
		for range 100 {
			h, err := vswitch.NewHost(nil)
			require.NoError(t, err)
			hosts = append(hosts, h)
		}
		time.Sleep(time.Second) // when addresses are aged
		var all sync.WaitGroup
		for _, h := range hosts {
			all.Go(func() { h.Close() })
		}
		all.Wait()
	})
}

func TestTheConfigurationChangesInManyHandsUnderTraffic(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, _, vm := externalLab(t, 6)
		l.nic("eth1")
		flows := []*flow{l.flow(vm[0], vm[1]), l.flow(vm[1], vm[0]), l.flow(vm[2], vm[3])}
		rounds := 300
		if hurried() {
			rounds = 50
		}
		var hands sync.WaitGroup
		change := func(f func(i int) error) {
			hands.Go(func() {
				for i := range rounds {
					if err := f(i); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		change(func(i int) error {
			return l.sw().SetConfig([]vswitch.SwitchConfig{
				{Type: vswitch.Internal, Ageing: time.Minute},
				{Type: vswitch.External, Uplink: "eth1", MaxAddresses: 10},
				{},
				{Type: vswitch.External, Uplink: "eth0"},
			}[i%4])
		})
		change(func(i int) error {
			c := vm[2].vnic.Config() // has a flow of its own
			c.AllowSpoofing, c.BlockUnknownUnicast, c.MaxAddresses = i%2 == 0, i%3 == 0, 1+i%7
			return vm[2].vnic.SetConfig(c)
		})
		change(func(i int) error {
			c := vm[4].vnic.Config()
			c.Switch, c.Management = []string{"", "lab", "nowhere"}[i%3], false
			return vm[4].vnic.SetConfig(c)
		})
		change(func(i int) error {
			v, err := l.host.NewVNIC("temporary", newStub(), &vswitch.VNICConfig{Switch: "lab"})
			if err != nil {
				return err
			}
			return v.Close()
		})
		change(func(i int) error {
			l.sw().AddAddress(stranger(i), 0, "vm5")
			l.sw().Stats()
			l.sw().Addresses()
			l.sw().FlushVLAN(0)
			return l.sw().RemoveAddress(stranger(i), 0)
		})
		hands.Wait()
		for _, f := range flows {
			require.NotZero(t, f.stop())
		}
	})
}
