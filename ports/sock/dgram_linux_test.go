package sock

import (
	"bytes"
	"io"
	"io/fs"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/hvswitch/hvswitch/ports"
)

func (p *dgramPeer) expect(t testing.TB, frames ...[]byte) {
	t.Helper()
	for _, want := range frames {
		got, ok := p.Take(patience)
		require.True(t, ok)
		require.True(t, bytes.Equal(want, got.Bytes))
	}
}

func TestDgramPeerComesLaterAndRestarts(t *testing.T) {
	local, remote := place(t, "a"), place(t, "b")
	s := open(t)(Dgram(local, remote, nil))
	require.False(t, s.Link().Up)
	require.ErrorIs(t, s.Err(), fs.ErrNotExist)
	_, err := s.Tx(0).Send(framesOf(ether(60)))
	require.ErrorIs(t, err, ports.ErrLinkDown)

	p := newDgramPeer(t, remote, local)
	for range 3 {
		eventually(t, "no link", isUp(s))
		require.NoError(t, s.Err())
		require.NoError(t, p.send(ether(61)))
		require.Equal(t, [][]byte{ether(61)}, receive(t, s, 1))
		sendAll(t, s, ether(60), ether(1514))
		p.expect(t, ether(60), ether(1514))

		p.stop()
		n, err := s.Tx(0).Send(framesOf(ether(60), ether(61)))
		require.Zero(t, n)
		require.ErrorIs(t, err, ports.ErrLinkDown)
		eventually(t, "the link stays up", isDown(s))
		require.ErrorIs(t, s.Err(), syscall.ECONNREFUSED)
		p.start(t)
	}
}

// Nobody sends anything: it is found out all the same.
func TestSilentDgramPeerGoes(t *testing.T) {
	local, remote := place(t, "a"), place(t, "b")
	p := newDgramPeer(t, remote, local)
	s := open(t)(Dgram(local, remote, nil))
	require.True(t, s.Link().Up)
	p.stop()
	eventually(t, "the link stays up", isDown(s))
	p.start(t)
	eventually(t, "the link stays down", isUp(s))
}

// What a peer sends wakes a socket that would look for it in a second only, and is not lost.
func TestCallBringsTheLinkUp(t *testing.T) {
	local, remote := place(t, "a"), place(t, "b")
	s := open(t)(Dgram(local, remote, nil))
	s.dev.(*dgram).mu.Lock()
	s.dev.(*dgram).timer.Stop() // as if it was long until it looks again
	s.dev.(*dgram).mu.Unlock()
	p := newDgramPeer(t, remote, local)
	require.NoError(t, p.send(ether(60)))
	eventually(t, "no link", isUp(s))
	require.Equal(t, [][]byte{ether(60)}, receive(t, s, 1))
}

func TestStrangersAreKeptOut(t *testing.T) {
	local, remote := place(t, "a"), place(t, "b")
	p := newDgramPeer(t, remote, local)
	stranger := newDgramPeer(t, place(t, "c"), local)
	s := open(t)(Dgram(local, remote, nil))
	require.ErrorIs(t, stranger.send(ether(66)), syscall.EPERM)
	require.NoError(t, p.send(ether(60)))
	require.Equal(t, [][]byte{ether(60)}, receive(t, s, 1))
}

// One that cannot be the peer does not keep the socket busy.
func TestStrangerCallsWhileThereIsNoPeer(t *testing.T) {
	local, remote := place(t, "a"), place(t, "b")
	s := open(t)(Dgram(local, remote, nil))
	stranger := newDgramPeer(t, place(t, "c"), local)
	require.NoError(t, stranger.send(ether(66)))
	time.Sleep(20 * time.Millisecond)
	before := cpuTime(t)
	time.Sleep(100 * time.Millisecond)
	require.Less(t, cpuTime(t)-before, 50*time.Millisecond)
	require.False(t, s.Link().Up)
}

func cpuTime(t testing.TB) time.Duration {
	var u unix.Rusage
	require.NoError(t, unix.Getrusage(unix.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func TestWhoeverCalls(t *testing.T) {
	local := place(t, "a")
	s := open(t)(Dgram(local, "", nil))
	require.NoError(t, s.Err())
	require.False(t, s.Link().Up)

	// One without an address cannot be answered.
	nameless, err := net.Dial("unixgram", local)
	require.NoError(t, err)
	defer nameless.Close()
	_, err = nameless.Write(ether(59))
	require.NoError(t, err)

	for i, first := range [][]byte{[]byte(greeting), ether(60)} {
		p := newDgramPeer(t, place(t, "vm"), local)
		require.NoError(t, p.send(first))
		eventually(t, "no link", isUp(s))
		require.NoError(t, p.send(ether(61)))
		want := [][]byte{ether(60), ether(61)}[1-i:]
		require.Equal(t, want, receive(t, s, len(want)))
		sendAll(t, s, ether(62))
		p.expect(t, ether(62))
		p.stop()
		eventually(t, "the link stays up", isDown(s))
	}
	require.Zero(t, s.Stats())
}

func TestDatagramsThatAreNoFrames(t *testing.T) {
	local, remote := place(t, "a"), place(t, "b")
	p := newDgramPeer(t, remote, local)
	s := open(t)(Dgram(local, remote, nil))
	go func() {
		for _, b := range [][]byte{{}, ether(13), ether(ports.MaxFrame + 1), ether(100000), ether(ports.MaxFrame), ether(14)} {
			p.send(b)
		}
	}()
	got := receive(t, s, 2)
	require.True(t, bytes.Equal(ether(ports.MaxFrame), got[0]))
	require.Equal(t, ether(14), got[1])
	require.Equal(t, Stats{Runts: 2, TooLong: 2}, s.Stats())
}

// The queue of a peer that does not read is full after a few datagrams; more wait, and go though
// nothing else is sent.
func TestSlowDgramReader(t *testing.T) {
	for _, long := range []int{60, 30000, etherLen + maxMTU} {
		local, remote := place(t, "a"), place(t, "b")
		p := newDgramPeer(t, remote, local)
		s := open(t)(Dgram(local, remote, &Config{MTU: maxMTU}))
		for range 3 {
			sent := 0
			for n := 3; n == 3; sent += n {
				var err error
				n, err = s.Tx(0).Send(framesOf(ether(60), ether(long), ether(1514)))
				require.NoError(t, err)
			}
			require.Greater(t, sent*(long+1574)/3, backlogSize/2)
			for i := range sent {
				p.expect(t, [][]byte{ether(60), ether(long), ether(1514)}[i%3])
			}
			require.Nil(t, s.dev.(*dgram).backlogNow())
		}
	}
}

func (d *dgram) backlogNow() *backlog {
	d.tx.mu.Lock()
	defer d.tx.mu.Unlock()
	return d.tx.backlog
}

func TestDatagramLongerThanTheSendBuffer(t *testing.T) {
	a, b := pair(t, unix.SOCK_DGRAM, &Config{SendBuffer: 8192, MTU: maxMTU})
	n, err := a.Tx(0).Send(framesOf(ether(60), ether(60000), ether(61)))
	require.Equal(t, 1, n)
	require.ErrorIs(t, err, ports.ErrFrameSize)
	require.Equal(t, [][]byte{ether(60)}, receive(t, b, 1))
}

func TestFromConnOfDatagramsEndsWithItsPeer(t *testing.T) {
	a, b := pair(t, unix.SOCK_DGRAM, nil)
	sendAll(t, b, ether(60))
	require.NoError(t, b.Close())
	require.Equal(t, [][]byte{ether(60)}, receive(t, a, 1))
	_, err := a.Tx(0).Send(framesOf(ether(60)))
	require.ErrorIs(t, err, ports.ErrLinkDown)
	eventually(t, "the link stays up", isDown(a))
	require.ErrorIs(t, a.Err(), io.EOF)
	require.ErrorIs(t, a.Rx(0).Recv(ports.NewBatch(1)), io.EOF)
}

func TestDgramNeedsItsPath(t *testing.T) {
	before := openFiles(t)
	_, err := Dgram(place(t, "a")+"/b", "", nil)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.Equal(t, before, openFiles(t))
}
