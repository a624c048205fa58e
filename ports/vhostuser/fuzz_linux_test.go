package vhostuser

import (
	"errors"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/hvswitch/hvswitch/ports"
)

// FuzzMessages sends any bytes as messages, with descriptors of guest memory or an eventfd, as the first
// byte of each piece says.
func FuzzMessages(f *testing.F) {
	msg := func(fds byte, r request, flags uint32, payload []byte) []byte {
		m := append(words(uint32(r), 1|flags, uint32(len(payload))), payload...)
		return append([]byte{fds<<6 | byte(min(len(m), 63))}, m...)
	}
	region := regionSpec{guest: lowBase, size: 1 << 20, user: userBase}
	setup := func(features uint64) (b []byte) {
		b = append(b, msg(0, reqGetFeatures, 0, nil)...)
		b = append(b, msg(0, reqSetProtocolFeatures, 0, quads(protoAlways))...)
		b = append(b, msg(0, reqSetFeatures, 0, quads(features))...)
		b = append(b, msg(1, reqAddMemReg, flagNeedReply, append(quads(0), region.wire()...))...)
		for i := range uint32(2) {
			b = append(b, msg(0, reqSetVringNum, 0, words(i, 16))...)
			b = append(b, msg(0, reqSetVringBase, 0, words(i, 0))...)
			b = append(b, msg(0, reqSetVringAddr, 0, append(words(i, 1), quads(userBase, userBase+8192, userBase+4096, lowBase)...))...)
			b = append(b, msg(2, reqSetVringCall, 0, quads(uint64(i)))...)
			b = append(b, msg(2, reqSetVringKick, 0, quads(uint64(i)))...)
			b = append(b, msg(0, reqSetVringEnable, 0, words(i, 1))...)
		}
		return append(b, msg(0, reqGetVringBase, 0, words(1, 0))...)
	}
	f.Add(setup(allFeatures))
	f.Add(setup(allFeatures | featPacked | featLogAll))
	f.Add(msg(1, reqSetLogBase, 0, quads(4096, 0)))
	f.Add(msg(1, reqSetInflightFD, 0, append(quads(8192, 0), 2, 0, 0, 1)))
	f.Add(msg(0, reqGetInflightFD, 0, append(quads(0, 0), 2, 0, 0, 1)))
	f.Add(msg(0, reqGetConfig, 0, append(words(0, 12, 0), make([]byte, 12)...)))

	path := socket(f)
	p := must(f, path, nil)
	mem, err := unix.MemfdCreate("fuzz", unix.MFD_CLOEXEC)
	require.NoError(f, err)
	f.Cleanup(func() { unix.Close(mem) })
	require.NoError(f, unix.Ftruncate(mem, 1<<20))
	event, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	require.NoError(f, err)
	f.Cleanup(func() { unix.Close(event) })
	out := []*ports.Frame{frame(ether(60, 0)), frame(ether(1500, 0))}

	f.Fuzz(func(t *testing.T, data []byte) {
		conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
		require.NoError(t, err)
		conn.SetDeadline(time.Now().Add(patience))
		for len(data) > 0 {
			n := min(int(data[0]&63), len(data)-1)
			var oob []byte
			switch data[0] >> 6 {
			case 1:
				oob = unix.UnixRights(mem)
			case 2:
				oob = unix.UnixRights(event)
			case 3:
				oob = unix.UnixRights(mem, event)
			}
			if _, _, err := conn.WriteMsgUnix(data[1:1+n], oob, nil); err != nil && n > 0 {
				break
			}
			data = data[1+n:]
		}
		b := ports.NewBatch(4)
		require.NoError(t, p.Rx(0).Recv(b))
		b.Reset()
		p.Rx(0).Release()
		if _, err := p.Tx(0).Send(out); err != nil && !errors.Is(err, ports.ErrLinkDown) && !errors.Is(err, ports.ErrFrameSize) {
			t.Fatal(err)
		}
		conn.CloseWrite()
		for buf := make([]byte, 4096); ; {
			if _, err := conn.Read(buf); err != nil {
				require.False(t, errors.Is(err, unix.ETIMEDOUT))
				break
			}
		}
		conn.Close()
		require.Less(t, openFiles(t), 64)
	})
}

// FuzzRings fills rings and what lies behind them with any bytes and uses them.
func FuzzRings(f *testing.F) {
	f.Add(uint8(0), []byte{0, 0, 0, 0}, words(1<<16), []byte{})
	f.Add(uint8(1), append(quads(lowBase, 100), quads(lowBase, 2000|descAvail<<48)...), words(1<<16), []byte{1})
	f.Add(uint8(2), append(append(quads(lowBase), words(100, descAvail<<16)...), quads(lowBase)...), words(0), []byte{})
	f.Add(uint8(3), append(quads(lowBase), words(32, (descAvail|descIndirect)<<16)...), words(2<<16), []byte{})
	rigs := map[bool]struct {
		p *Port
		g *vm
	}{}
	for _, packed := range []bool{false, true} {
		features := uint64(allFeatures)
		if packed {
			features |= featPacked
		}
		p, g := plug(f, nil, vmConfig{features: features, size: 16})
		rigs[packed] = struct {
			p *Port
			g *vm
		}{p, g}
	}
	out := []*ports.Frame{frame(ether(60, 0)), frame(ether(1500, 0))}
	b := ports.NewBatch(4)
	f.Fuzz(func(t *testing.T, how uint8, desc, avail, used []byte) {
		rig := rigs[how&2 != 0]
		p, g := rig.p, rig.g
		g.t = t
		for _, q := range g.all() {
			g.stop(q)
			q.reset()
			copy(g.mem[q.desc:][:16*descLen], desc)
			copy(g.mem[q.used:][:6+8*16], used)
			if how&1 != 0 {
				copy(g.mem[q.avail:][:6+2*16], avail)
			}
			g.start(q, q.firstBase())
			copy(g.mem[q.avail:][:6+2*16], avail)
		}
		for range 3 {
			require.NoError(t, p.Rx(0).Recv(b))
			for _, f := range b.Frames() {
				f.CopyTo(make([]byte, f.WireLen()))
			}
			b.Reset()
			p.Rx(0).Release()
			p.Rx(0).(ports.Notifier).Arm()
			if _, err := p.Tx(0).Send(out); err != nil && !errors.Is(err, ports.ErrLinkDown) && !errors.Is(err, ports.ErrFrameSize) {
				t.Fatal(err)
			}
		}
	})
}
