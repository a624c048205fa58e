package sock

import (
	"net"
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/hvswitch/hvswitch/ports/portstest"
)

func TestListenStreamConforms(t *testing.T) {
	portstest.Run(t, func(t *testing.T) portstest.Rig {
		path := place(t, "s")
		s := open(t)(ListenStream(path, nil))
		p := &streamPeer{}
		t.Cleanup(p.hangUp)
		setLink := func(up bool) {
			p.hangUp()
			if up {
				c, err := net.Dial("unix", path)
				require.NoError(t, err)
				p.use(c)
			}
		}
		setLink(true)
		eventually(t, "no link", isUp(s))
		return portstest.Rig{Backend: s, Peer: p, SetLink: setLink}
	})
}

func TestDialStreamConforms(t *testing.T) {
	portstest.Run(t, func(t *testing.T) portstest.Rig {
		path := place(t, "s")
		var l net.Listener
		p := &streamPeer{}
		setLink := func(up bool) {
			if l != nil {
				l.Close()
			}
			p.hangUp()
			if up {
				var err error
				l, err = net.Listen("unix", path)
				require.NoError(t, err)
				l.(*net.UnixListener).SetDeadline(deadline())
				go func(l net.Listener) {
					if c, err := l.Accept(); err == nil {
						p.use(c)
					}
				}(l)
			}
		}
		setLink(true)
		t.Cleanup(func() { setLink(false) })
		s := open(t)(DialStream(path, &Config{MTU: 9000}))
		eventually(t, "no link", func() bool { return s.Link().Up && p.now() != nil })
		return portstest.Rig{Backend: s, Peer: p, SetLink: setLink}
	})
}

var noRunts = portstest.Lacks{portstest.Runts: "its peer is a Socket, which does not send them"}

func TestFromConnConforms(t *testing.T) {
	for name, kind := range map[string]int{"stream": unix.SOCK_STREAM, "dgram": unix.SOCK_DGRAM} {
		t.Run(name, func(t *testing.T) {
			portstest.Run(t, func(t *testing.T) portstest.Rig {
				a, b := pair(t, kind, nil)
				return portstest.Rig{Backend: a, Peer: portstest.Far(b), Lacks: noRunts}
			})
		})
	}
}

// pair makes two sockets that are connected.
func pair(t testing.TB, kind int, cfg *Config) (a, b *Socket) {
	fds, err := unix.Socketpair(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	var ends [2]*Socket
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "socket")
		ends[i] = open(t)(FromConn(f, cfg))
		require.NoError(t, f.Close())
	}
	return ends[0], ends[1]
}

var _ syscall.Conn = &os.File{}

func TestDgramConforms(t *testing.T) {
	portstest.Run(t, func(t *testing.T) portstest.Rig {
		local, remote := place(t, "a"), place(t, "b")
		p := newDgramPeer(t, remote, local)
		s := open(t)(Dgram(local, remote, nil))
		require.True(t, s.Link().Up)
		setLink := func(up bool) {
			p.stop()
			if up {
				p.start(t)
			}
		}
		return portstest.Rig{Backend: s, Peer: p, SetLink: setLink}
	})
}

// When both connect, the length of the queue is bound by the send buffer only.
func TestDgramOfTwoConforms(t *testing.T) {
	portstest.Run(t, func(t *testing.T) portstest.Rig {
		a, b := place(t, "a"), place(t, "b")
		far := open(t)(Dgram(b, a, &Config{MTU: maxMTU}))
		s := open(t)(Dgram(a, b, &Config{MTU: 9000}))
		eventually(t, "no link", func() bool { return s.Link().Up && far.Link().Up })
		return portstest.Rig{Backend: s, Peer: portstest.Far(far), Lacks: noRunts}
	})
}

func TestDgramOfWhoeverCallsConforms(t *testing.T) {
	portstest.Run(t, func(t *testing.T) portstest.Rig {
		local, remote := place(t, "a"), place(t, "b")
		s := open(t)(Dgram(local, "", nil))
		p := newDgramPeer(t, remote, local)
		greet := func() { require.NoError(t, p.send([]byte(greeting))) }
		setLink := func(up bool) {
			p.stop()
			if up {
				eventually(t, "the link stays up", isDown(s))
				p.start(t)
				greet()
			}
		}
		greet()
		eventually(t, "no link", isUp(s))
		return portstest.Rig{Backend: s, Peer: p, SetLink: setLink}
	})
}
