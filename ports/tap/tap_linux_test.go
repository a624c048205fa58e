package tap

import (
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/ports/portstest"
)

func TestConformance(t *testing.T) {
	for _, c := range []struct {
		name string
		cfg  Config
	}{
		{"OneQueue", Config{Name: "one"}},
		{"ManyQueues", Config{Name: "many", Queues: 3}},
		{"Jumbo", Config{Name: "jumbo", MTU: 9000}},
		{"ChecksumOnly", Config{Name: "sum", Disable: ports.OffloadAll &^ ports.OffloadChecksum}},
		{"NoOffload", Config{Name: "plain", Disable: ports.OffloadAll}},
	} {
		t.Run(c.name, func(t *testing.T) {
			portstest.Run(t, func(t *testing.T) portstest.Rig { return rig(t, must, &c.cfg) })
		})
	}
	t.Run("FromFD", func(t *testing.T) {
		portstest.Run(t, func(t *testing.T) portstest.Rig { return rig(t, mustAdopt, nil) })
	})
}

// rig puts a TAP, opened in a namespace of its own, on the bench.
func rig(t *testing.T, open func(testing.TB, *Config) *TAP, cfg *Config) portstest.Rig {
	aside(t)
	p := open(t, cfg)
	name := p.Info().Name
	set := setLink(t, name)
	set(true)
	return portstest.Rig{
		Backend: p,
		Peer:    portstest.Interface(t, name),
		Depth:   256,
		SetLink: set,
		Puts:    p.Info().Offloads,
		Takes:   p.Info().Offloads,
		Lacks: portstest.Lacks{
			portstest.Backpressure: "the kernel drops what nobody reads",
			portstest.Runts:        "a packet socket refuses them",
		},
	}
}

// mustAdopt makes a TAP of descriptors as libvirt hands them over.
func mustAdopt(t testing.TB, cfg *Config) *TAP {
	t.Helper()
	var fds []int
	name := "virt"
	for range 2 {
		fd, _, err := attach(name, unix.IFF_TAP|unix.IFF_NO_PI|unix.IFF_VNET_HDR|unix.IFF_MULTI_QUEUE)
		require.NoError(t, err)
		require.NoError(t, unix.SetNonblock(fd, false))
		require.NoError(t, unix.IoctlSetPointerInt(fd, unix.TUNSETSNDBUF, 1<<16))
		require.NoError(t, unix.IoctlSetPointerInt(fd, unix.TUNSETVNETHDRSZ, 12))
		fds = append(fds, fd)
	}
	p, err := FromFD(cfg, fds...)
	require.NoError(t, err)
	t.Cleanup(func() { p.Close() })
	return p
}

func TestDefaults(t *testing.T) {
	aside(t)
	p := must(t, nil)
	i := p.Info()
	assert.Equal(t, "tap0", i.Name)
	assert.Equal(t, 1500, i.MTU)
	assert.Equal(t, 1, i.RxQueues)
	assert.Equal(t, 1, i.TxQueues)
	assert.True(t, i.MAC.IsUnicast())
	assert.Equal(t, ports.OffloadAll&^ports.OffloadUDP, i.Offloads&^ports.OffloadUDP)
	assert.True(t, isUp(t, "tap0"))
	assert.Equal(t, "tap1", must(t, nil).Info().Name)

	require.NoError(t, p.Close())
	assert.False(t, exists("tap0"), "the interface is still there")
	assert.Equal(t, "tap0", must(t, nil).Info().Name)
}

func TestSetup(t *testing.T) {
	aside(t)
	mac := ports.MAC{0x02, 1, 2, 3, 4, 5}
	p := must(t, &Config{Name: "vm%d", MAC: mac, MTU: 9000, Queues: 4, KeepDown: true})
	assert.Equal(t, ports.Info{Name: "vm0", MAC: mac, MTU: 9000, RxQueues: 4, TxQueues: 4, Offloads: p.Info().Offloads}, p.Info())
	i, err := net.InterfaceByName("vm0")
	require.NoError(t, err)
	assert.Equal(t, 9000, i.MTU)
	assert.Equal(t, mac[:], []byte(i.HardwareAddr))
	assert.Zero(t, i.Flags&net.FlagUp)
	assert.False(t, p.Link().Up)
}

func TestLongestMTU(t *testing.T) {
	aside(t)
	p := must(t, &Config{MTU: maxMTU})
	f := frame(ether(14+maxMTU), 256)
	n, err := p.Tx(0).Send([]*ports.Frame{f})
	require.NoError(t, err)
	assert.Equal(t, 1, n)
}

func TestDisable(t *testing.T) {
	aside(t)
	for _, c := range []struct{ disable, want ports.Offloads }{
		{ports.OffloadAll, 0},
		{ports.OffloadChecksum, 0}, // all others need it
		{ports.OffloadTCP4 | ports.OffloadTCP6 | ports.OffloadUDP, ports.OffloadChecksum},
		{ports.OffloadUDP | ports.OffloadTCP6, ports.OffloadChecksum | ports.OffloadTCP4 | ports.OffloadECN},
	} {
		p := must(t, &Config{Disable: c.disable})
		assert.Equal(t, c.want, p.Info().Offloads)
		require.NoError(t, p.Close())
	}
}

// persistent makes an interface as ip tuntap add does.
func persistent(t *testing.T, name string, flags uint16) {
	t.Helper()
	fd, _, err := attach(name, flags|unix.IFF_NO_PI)
	require.NoError(t, err)
	require.NoError(t, unix.IoctlSetInt(fd, unix.TUNSETPERSIST, 1))
	require.NoError(t, unix.Close(fd))
}

func TestDisableOfFromFD(t *testing.T) {
	aside(t)
	p := mustAdopt(t, &Config{Disable: ports.OffloadAll})
	assert.Zero(t, p.Info().Offloads)
	setLink(t, "virt")(true)
	peer := portstest.Interface(t, "virt")
	n, err := p.Tx(0).Send([]*ports.Frame{frame(ether(64), 64)})
	require.NoError(t, err)
	require.Equal(t, 1, n)
	_, ok := peer.Take(patience)
	assert.True(t, ok)
}

func TestUsesWhatIsThere(t *testing.T) {
	for _, c := range []struct {
		name  string
		flags uint16
		cfg   Config
	}{
		{"plain", unix.IFF_TAP, Config{}},
		{"for many queues", unix.IFF_TAP | unix.IFF_MULTI_QUEUE, Config{}},
		{"with many queues", unix.IFF_TAP | unix.IFF_MULTI_QUEUE, Config{Queues: 2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			aside(t)
			persistent(t, "old", c.flags)
			c.cfg.Name = "old"
			p := must(t, &c.cfg)
			assert.NotZero(t, p.Info().Offloads)
			require.NoError(t, p.Close())
			assert.True(t, exists("old"), "an interface that was there before is gone")
		})
	}
}

func TestOpenFails(t *testing.T) {
	for _, c := range []struct {
		name  string
		scene func(t *testing.T)
		cfg   Config
		is    []error
		want  string
	}{
		{
			"name in use", func(t *testing.T) { must(t, &Config{Name: "vm1"}) }, Config{Name: "vm1"},
			[]error{syscall.EBUSY}, `tap "vm1": attach: somebody has it open: device or resource busy`,
		},
		{
			"name of another kind", func(*testing.T) {}, Config{Name: "lo"},
			[]error{syscall.EINVAL}, `tap "lo": attach: there is an interface of this name, which is not such a TAP: invalid argument`,
		},
		{
			"name of a TUN", func(t *testing.T) { persistent(t, "tun7", unix.IFF_TUN) }, Config{Name: "tun7"},
			[]error{syscall.EINVAL}, `tap "tun7": attach: there is an interface of this name, which is not such a TAP: invalid argument`,
		},
		{
			"too few queues", func(t *testing.T) { persistent(t, "vm1", unix.IFF_TAP) }, Config{Name: "vm1", Queues: 2},
			[]error{syscall.EINVAL}, `tap "vm1": attach: there is an interface of this name, which is not such a TAP: invalid argument`,
		},
		{
			"no right to open", dropCapabilities, Config{Name: "vm1"},
			[]error{fs.ErrPermission, syscall.EPERM}, `tap "vm1": attach: creating a TAP needs CAP_NET_ADMIN: operation not permitted`,
		},
		{
			"no right to the device", becomeNobody, Config{Name: "vm1"},
			[]error{fs.ErrPermission, syscall.EACCES}, `tap "vm1": open /dev/net/tun: permission denied`,
		},
		{
			"no device", hideDevice, Config{},
			[]error{fs.ErrNotExist, syscall.ENOENT}, `tap "tap%d": open /dev/net/tun: no such file or directory`,
		},
		{
			"no right to set up", func(t *testing.T) {
				persistent(t, "mine", unix.IFF_TAP)
				dropCapabilities(t)
			}, Config{Name: "mine", MTU: 9000},
			[]error{fs.ErrPermission}, `tap "mine": set MTU 9000: operation not permitted`,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			aside(t)
			c.scene(t)
			before := openFiles(t)
			for range 3 {
				p, err := Open(&c.cfg)
				require.Error(t, err)
				assert.Nil(t, p)
				assert.EqualError(t, err, c.want)
				for _, target := range c.is {
					assert.ErrorIs(t, err, target)
				}
			}
			assert.Equal(t, before, openFiles(t), "descriptors are left")
		})
	}
}

// dropCapabilities takes all rights of root from the thread.
func dropCapabilities(t *testing.T) {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	require.NoError(t, unix.Capset(&hdr, &none[0]))
}

// becomeNobody makes the thread, and only it, one of an unprivileged user.
func becomeNobody(t *testing.T) {
	st, err := os.Stat(cloneDevice)
	require.NoError(t, err)
	if st.Mode().Perm()&0o006 == 0o006 { // open to everybody
		hideDevice(t)
		require.NoError(t, unix.Mknod(cloneDevice, unix.S_IFCHR|0o600, int(st.Sys().(*syscall.Stat_t).Rdev)))
	}
	_, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, 65534, 65534, 65534)
	require.Zero(t, errno)
}

func hideDevice(t *testing.T) {
	require.NoError(t, unix.Unshare(unix.CLONE_FS|unix.CLONE_NEWNS))
	require.NoError(t, unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	if err := unix.Mount("none", "/dev/net", "tmpfs", 0, ""); err != nil {
		t.Skipf("needs to mount: %v", err)
	}
}

func TestQueuesThatCannotBeAreClosed(t *testing.T) {
	aside(t)
	taken, name, err := attach("vm1", unix.IFF_TAP|unix.IFF_NO_PI|unix.IFF_MULTI_QUEUE)
	require.NoError(t, err)
	defer unix.Close(taken)
	before := openFiles(t)
	_, err = Open(&Config{Name: name, Queues: maxQueues}) // one more than there can be
	require.ErrorIs(t, err, syscall.E2BIG)
	assert.EqualError(t, err, `tap "vm1": attach: argument list too long`)
	assert.Equal(t, before, openFiles(t))
}

func TestCloseLeavesNothing(t *testing.T) {
	aside(t)
	open := func() {
		p, err := Open(&Config{Name: "vm1", Queues: 3})
		require.NoError(t, err)
		p.WatchLink(func(ports.Link) {})
		require.NoError(t, p.Close())
		require.False(t, exists("vm1"))
	}
	open() // the runtime's poller stays
	before := openFiles(t)
	for range 10 {
		open()
	}
	eventually(t, "descriptors are left", func() bool { return openFiles(t) == before })
}

func TestFromFDRefuses(t *testing.T) {
	aside(t)
	file, err := os.Open(os.DevNull)
	require.NoError(t, err)
	defer file.Close()
	null := int(file.Fd())
	queue := func(name string, flags uint16) int {
		fd, _, err := attach(name, flags)
		require.NoError(t, err)
		t.Cleanup(func() { unix.Close(fd) })
		return fd
	}
	tun := queue("tun0", unix.IFF_TUN|unix.IFF_NO_PI)
	a := queue("a0", unix.IFF_TAP|unix.IFF_NO_PI|unix.IFF_MULTI_QUEUE)
	b := queue("b0", unix.IFF_TAP|unix.IFF_NO_PI|unix.IFF_MULTI_QUEUE)
	before := openFiles(t)
	for _, c := range []struct {
		cfg  *Config
		fds  []int
		want string
	}{
		{nil, nil, "tap: 0 descriptors are out of 1–256"},
		{nil, []int{null}, fmt.Sprintf("tap: descriptor %d is not attached to a TAP: TUNGETIFF: inappropriate ioctl for device", null)},
		{nil, []int{1 << 20}, "tap: descriptor 1048576 is not attached to a TAP: TUNGETIFF: bad file descriptor"},
		{nil, []int{tun}, fmt.Sprintf(`tap "tun0": descriptor %d is that of a TUN`, tun)},
		{nil, []int{a, b}, fmt.Sprintf(`tap "a0": descriptor %d belongs to "b0"`, b)},
		{&Config{Name: "a0"}, []int{a}, fmt.Sprintf("tap: descriptors [%d]: name, MAC and queues are theirs", a)},
	} {
		p, err := FromFD(c.cfg, c.fds...)
		assert.EqualError(t, err, c.want)
		assert.Nil(t, p)
	}
	assert.Equal(t, before, openFiles(t), "the descriptors are the caller's after an error")
}

func TestFromFDNeedsNoRights(t *testing.T) {
	aside(t)
	fd, _, err := attach("given", unix.IFF_TAP|unix.IFF_NO_PI|unix.IFF_VNET_HDR)
	require.NoError(t, err)
	setMTU(t, "given", 4000)
	setLink(t, "given")(true)
	dropCapabilities(t)

	p, err := FromFD(nil, fd)
	require.NoError(t, err)
	defer p.Close()
	assert.Equal(t, "given", p.Info().Name)
	assert.Equal(t, 4000, p.Info().MTU)
	assert.True(t, p.Link().Up)
}

// A VMM in a sandbox holds the descriptor of an interface outside.
func TestFromFDOfAnotherNamespace(t *testing.T) {
	for _, c := range []struct {
		name string
		may  bool
		want int
	}{
		{"that we may enter", true, 4000},
		{"that we may not enter", false, 1500},
	} {
		t.Run(c.name, func(t *testing.T) {
			aside(t)
			fd, _, err := attach("given", unix.IFF_TAP|unix.IFF_NO_PI|unix.IFF_VNET_HDR)
			require.NoError(t, err)
			setMTU(t, "given", 4000)
			require.NoError(t, unix.Unshare(unix.CLONE_NEWNET))
			decoy := must(t, &Config{Name: "given", MTU: 3000})
			if !c.may {
				dropCapabilities(t)
			}
			p, err := FromFD(nil, fd)
			require.NoError(t, err)
			assert.Equal(t, c.want, p.Info().MTU)
			require.NoError(t, p.Close())

			assert.Equal(t, 3000, decoy.Info().MTU)
		})
	}
}

func setMTU(t *testing.T, name string, mtu uint32) {
	t.Helper()
	ifr, err := unix.NewIfreq(name)
	require.NoError(t, err)
	ifr.SetUint32(mtu)
	require.NoError(t, unix.IoctlIfreq(inet(t), unix.SIOCSIFMTU, ifr))
}

func TestReopenAtOnce(t *testing.T) {
	aside(t)
	for range 20 {
		p, err := Open(&Config{Name: "vm1"})
		require.NoError(t, err)
		done := make(chan struct{})
		started := make(chan struct{})
		go func() {
			defer close(done)
			b, f := ports.NewBatch(8), []*ports.Frame{frame(ether(64), 64)}
			for i := 0; ; i++ {
				b.Reset()
				err := p.Rx(0).Recv(b)
				_, err2 := p.Tx(0).Send(f)
				if err != nil && err2 != nil {
					assert.ErrorIs(t, err, ports.ErrClosed)
					assert.ErrorIs(t, err2, ports.ErrClosed)
					return
				}
				if i == 10 {
					close(started)
				}
			}
		}()
		select {
		case <-started:
		case <-time.After(patience):
			t.Fatal("nothing happens")
		}
		require.NoError(t, p.Close())
		<-done
	}
}

func TestSetMAC(t *testing.T) {
	aside(t)
	port, err := Open(nil)
	require.NoError(t, err)
	defer port.Close()
	want := ports.MAC{2, 0, 0, 0, 0, 9}
	require.NoError(t, port.SetMAC(want))
	got, err := macOf(port.dev.queues[0].fd)
	require.NoError(t, err)
	require.Equal(t, want, got)
	require.ErrorContains(t, port.SetMAC(ports.Broadcast), "not that of a station")
	require.NoError(t, port.Close())
	require.ErrorIs(t, port.SetMAC(want), ports.ErrClosed)
}
