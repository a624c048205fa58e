package vswitch_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vswitch"
)

// manyPorts is how many ports one switch shall have without ado (MISSION M1).
func manyPorts() int {
	if hurried() {
		return 1000
	}
	return 10_000
}

var roomyPool = vswitch.MACRange{First: ports.MAC{2}, Last: ports.MAC{2, 0, 0, 0, 0xff, 0xff}}

// roomyLab has a MAC pool for all ports.
func roomyLab(t *testing.T) *lab {
	l := newLabWith(t, vswitch.HostConfig{MACPool: roomyPool})
	l.newSwitch("lab", vswitch.SwitchConfig{})
	return l
}

func TestTenThousandPortsComeAndGoWhileOthersTalk(t *testing.T) {
	l := roomyLab(t)
	vm := l.guests(4)
	flows := []*flow{l.flow(vm[0], vm[1]), l.flow(vm[1], vm[0]), l.flow(vm[2], vm[3])}
	talk := func() {
		for _, f := range flows {
			f.goOn(1000)
		}
	}
	talk()
	n := manyPorts()
	crowd := make([]*station, n)
	start := time.Now()
	for i := range crowd {
		crowd[i] = l.guestOn(ports.PipeConfig{Depth: 2}, fmt.Sprintf("crowd%d", i), vswitch.VNICConfig{Switch: "lab"})
	}
	added := time.Since(start)
	talk()
	require.Len(t, l.sw().Stats().Ports, n+4)
	require.Equal(t, n+4, l.sw().Stats().Addresses)

	// One of them speaks to all, another to the one that came last.
	crowd[0].send(ports.Broadcast, "we are many")
	crowd[1].send(crowd[n-1].mac, "hello")
	buf := make([]byte, 100)
	read := func(s *station) string {
		k, err := s.end.ReadFrame(t.Context(), buf)
		require.NoError(t, err)
		return string(buf[14:k])
	}
	for _, s := range crowd[1 : n-1] {
		require.Equal(t, "we are many", read(s))
	}
	require.ElementsMatch(t, []string{"we are many", "hello"}, []string{read(crowd[n-1]), read(crowd[n-1])})
	talk()

	start = time.Now()
	for i := range crowd {
		require.NoError(t, crowd[i].vnic.Close())
		require.True(t, isClosed(crowd[i].end))
	}
	removed := time.Since(start)
	talk()
	require.Len(t, l.sw().Stats().Ports, 4)
	require.Equal(t, 4, l.sw().Stats().Addresses)
	var passed int
	for _, f := range flows {
		passed += f.stop()
	}
	t.Logf("%d ports: added in %v, removed in %v, beside %d frames of others", n, added, removed, passed)
}

func TestTenThousandPortsFollowTheirSwitch(t *testing.T) {
	l := roomyLab(t)
	n := manyPorts()
	var some []*station
	for i := range n {
		s := l.guestOn(ports.PipeConfig{Depth: 2}, fmt.Sprintf("crowd%d", i), vswitch.VNICConfig{Switch: "later"})
		if i%(n/10) == 0 {
			some = append(some, s)
		}
	}
	start := time.Now()
	sw := l.newSwitch("later", vswitch.SwitchConfig{})
	connected := time.Since(start)
	for _, s := range some {
		require.True(t, s.vnic.Connected())
	}
	require.Len(t, sw.Stats().Ports, n)
	start = time.Now()
	require.NoError(t, sw.Close())
	t.Logf("%d vNICs: connected to a new switch in %v, disconnected in %v", n, connected, time.Since(start))
	for _, s := range some {
		require.False(t, s.vnic.Connected())
	}
	start = time.Now()
	require.NoError(t, l.host.Close())
	t.Logf("%d vNICs: deleted with their host in %v", n, time.Since(start))
}

// maxIdlePort is what an idle port may cost beyond its backend.
const maxIdlePort = 16 << 10

func TestAnIdlePortCostsLittleMemory(t *testing.T) {
	n := manyPorts()
	stubs := make([]stub, n)
	for i := range stubs {
		stubs[i].info = ports.Info{MTU: 1500, RxQueues: 1, TxQueues: 1}
	}
	noCost := func(i int) ports.Backend { return &stubs[i] }
	beyond := memoryPerPort(t, n, noCost)
	withPipe := memoryPerPort(t, n, func(int) ports.Backend {
		a, _, err := ports.Pipe(nil)
		require.NoError(t, err)
		return a
	})
	t.Logf("%d idle ports: %d bytes each beyond the backend, %d with a Pipe", n, beyond, withPipe)
	require.Less(t, beyond, maxIdlePort)
	require.Less(t, withPipe, maxIdlePort)
}

func memoryPerPort(t *testing.T, n int, backend func(i int) ports.Backend) int {
	h := silentHost(t)
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprint("vm", i)
	}
	before := heap()
	for i, name := range names {
		_, err := h.NewVNIC(name, backend(i), &vswitch.VNICConfig{Switch: "lab"})
		require.NoError(t, err)
	}
	after := heap()
	require.NoError(t, h.Close())
	return (after - before) / n
}

// silentHost has the switch "lab" and keeps no log.
func silentHost(t *testing.T) *vswitch.Host {
	h, err := vswitch.NewHost(&vswitch.HostConfig{MACPool: roomyPool})
	require.NoError(t, err)
	t.Cleanup(func() { h.Close() })
	_, err = h.NewSwitch("lab", nil)
	require.NoError(t, err)
	return h
}

// heap returns the bytes in use when all garbage is gone.
func heap() int {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

func TestPortsThatAreGoneCostNoMemory(t *testing.T) {
	h := silentHost(t)
	comeAndGo := func() {
		for i := range 100 {
			v, err := h.NewVNIC(fmt.Sprint("vm", i), newStub(), &vswitch.VNICConfig{Switch: "lab"})
			require.NoError(t, err)
			defer v.Close()
		}
	}
	comeAndGo()
	before := heap()
	rounds := 500
	if hurried() {
		rounds = 50
	}
	for range rounds {
		comeAndGo()
	}
	require.Less(t, heap()-before, 512<<10, "bytes, after %d00 ports came and went", rounds)
}
