package vswitch_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vswitch"
)

// become is the configuration of the lab's switch as another type.
func become(l *lab, to vswitch.SwitchType) {
	l.t.Helper()
	l.reconfigure(func(c *vswitch.SwitchConfig) {
		c.Type, c.Uplink = to, ""
		if to == vswitch.External {
			c.Uplink = "eth0"
		}
	})
}

func (l *lab) management(name string) *station {
	l.t.Helper()
	return l.guest(name, vswitch.VNICConfig{Switch: "lab", Management: true})
}

func TestASwitchConnectsWhomItsTypeSays(t *testing.T) {
	for _, c := range []struct {
		is         vswitch.SwitchType
		host, wire []string
	}{
		{vswitch.Private, nil, nil},
		{vswitch.Internal, []string{"hello"}, nil},
		{vswitch.External, []string{"hello"}, []string{"hello"}},
	} {
		t.Run(c.is.String(), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				l, wire, vm := externalLab(t, 2)
				host := l.management("host")
				become(l, c.is)
				vm[0].send(ports.Broadcast, "hello")
				l.everyoneGot([]string{"hello"}, vm[1])
				l.everyoneGot(c.host, host)
				l.everyoneGot(c.wire, wire)
				require.Equal(t, c.is == vswitch.External, wire.nic.Switch() != nil)

				wire.send(ports.Broadcast, "from outside")
				host.send(ports.Broadcast, "from the host")
				var want []string
				if c.wire != nil {
					want = append(want, "from outside")
				}
				if c.host != nil {
					want = append(want, "from the host")
				}
				require.ElementsMatch(t, want, vm[0].got())
				require.ElementsMatch(t, want, vm[1].got())
			})
		})
	}
}

func TestAnUplinkNotSharedWithTheHostServesVMsOnly(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, wire, vm := externalLab(t, 1)
		require.Len(t, l.sw().Stats().Ports, 2)
		vm[0].send(ports.Broadcast, "hello")
		l.everyoneGot([]string{"hello"}, wire)
	})
}

func TestTheTypeChangesInEveryDirectionWhileVMsTalk(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, wire, vm := externalLab(t, 4)
		host := l.management("host")
		become(l, vswitch.Private)
		there, back := l.flow(vm[0], vm[1]), l.flow(vm[1], vm[0])
		rounds := 30
		if hurried() {
			rounds = 5
		}
		for range rounds {
			for _, to := range []vswitch.SwitchType{
				vswitch.Internal, vswitch.External, vswitch.Private, vswitch.External, vswitch.Internal, vswitch.Private,
			} {
				there.goOn(100)
				back.goOn(100)
				become(l, to)
				there.goOn(100)
				require.Equal(t, to, l.sw().Config().Type)
				require.Equal(t, to != vswitch.Private, host.vnic.Connected())
				require.Equal(t, to == vswitch.External, wire.nic.Switch() != nil)
			}
		}
		require.NotZero(t, there.stop())
		require.NotZero(t, back.stop())

		for _, to := range []vswitch.SwitchType{vswitch.Internal, vswitch.External, vswitch.Private} {
			drain(vm[3], host, wire)
			become(l, to)
			vm[2].send(ports.Broadcast, "hello")
			l.everyoneGot([]string{"hello"}, vm[3])
			if to != vswitch.Private {
				l.everyoneGot([]string{"hello"}, host)
			}
			if to == vswitch.External {
				l.everyoneGot([]string{"hello"}, wire)
			}
			l.nobodyGot(host, wire)
		}
		for _, s := range vm {
			require.Empty(t, s.drops())
		}
	})
}

func TestManagementVNICs(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, wire, vm := externalLab(t, 1)
		storage, cluster := l.management("storage"), l.management("cluster")
		require.True(t, storage.vnic.Config().Management)
		storage.send(cluster.mac, "between themselves")
		l.everyoneGot([]string{"between themselves"}, cluster)
		l.nobodyGot(vm[0], wire)
		storage.send(ports.Broadcast, "to all")
		l.everyoneGot([]string{"to all"}, cluster, vm[0], wire)

		require.NoError(t, storage.vnic.Close())
		vm[0].send(ports.Broadcast, "without storage")
		l.everyoneGot([]string{"without storage"}, cluster, wire)
	})
}

func TestAPrivateSwitchRefusesManagementVNICs(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, vm := privateLab(t, 1)
		a, _ := l.pipe(ports.PipeConfig{})
		_, err := l.host.NewVNIC("host", a, &vswitch.VNICConfig{Switch: "lab", Management: true})
		require.ErrorIs(t, err, vswitch.ErrInvalid)
		require.EqualError(t, err, `switch "lab": management vNIC "host": a private switch has none: invalid configuration`)
		require.Nil(t, l.host.VNIC("host"))
		require.False(t, isClosed(a), "what is refused stays the caller's")
		a.Close()

		c := vm[0].vnic.Config()
		c.Management = true
		require.ErrorIs(t, vm[0].vnic.SetConfig(c), vswitch.ErrInvalid)
		require.False(t, vm[0].vnic.Config().Management)

		elsewhere := l.guest("elsewhere", vswitch.VNICConfig{Management: true})
		require.False(t, elsewhere.vnic.Connected())
		c = elsewhere.vnic.Config()
		c.Switch = "lab"
		require.ErrorIs(t, elsewhere.vnic.SetConfig(c), vswitch.ErrInvalid)
		require.Empty(t, elsewhere.vnic.Config().Switch)
	})
}

func TestAManagementVNICIsDisconnectedWhileItsSwitchIsPrivate(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, _, vm := externalLab(t, 2)
		host := l.management("host")
		mac, id := host.vnic.MAC(), host.vnic.ID()
		become(l, vswitch.Private)
		require.False(t, host.vnic.Connected())
		l.requireLogged("vNIC disconnected", "vnic=host", "switch=lab", "private")
		require.False(t, isKnown(vm[0], mac))
		host.send(vm[0].mac, "nobody hears me")
		l.nobodyGot(vm[0])

		become(l, vswitch.Internal)
		require.True(t, host.vnic.Connected())
		require.Equal(t, mac, host.vnic.MAC())
		require.Equal(t, id, host.vnic.ID())
		drain(vm...)
		host.send(vm[0].mac, "here again")
		require.Contains(t, vm[0].got(), "here again")
		vm[0].send(mac, "welcome")
		l.everyoneGot([]string{"welcome"}, host)
	})
}

func TestAManagementVNICCanBeChangedWhileItsSwitchIsPrivate(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, _, _ := externalLab(t, 1)
		host := l.management("host")
		become(l, vswitch.Private)
		host.reconfigure(func(c *vswitch.VNICConfig) { c.Notes = "for backups" })
		require.False(t, host.vnic.Connected())
		become(l, vswitch.Internal)
		require.True(t, host.vnic.Connected())
		require.Equal(t, "for backups", host.vnic.Config().Notes)
	})
}

func TestAPrivateSwitchThatAppearsLeavesManagementVNICsAlone(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l := newLab(t)
		host := l.management("host")
		l.newSwitch("lab", vswitch.SwitchConfig{Type: vswitch.Private})
		require.False(t, host.vnic.Connected())
		become(l, vswitch.Internal)
		require.True(t, host.vnic.Connected())
	})
}
