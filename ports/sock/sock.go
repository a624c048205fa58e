package sock

import (
	"fmt"
	"math"
	"strings"
	"syscall"

	"github.com/hvswitch/hvswitch/ports"
)

// Config describes a socket. A nil *Config or zero fields mean the defaults.
type Config struct {
	// Name is Info.Name; default the path of the socket.
	Name string

	// MTU is the longest payload behind an Ethernet header and tag that is sent, in bytes,
	// 68–65531; default 1500. Longer frames are received all the same.
	MTU int

	// SendBuffer bounds what has been sent and not been received by the peer yet, in bytes,
	// 4096–1073741823; default 1 MiB. Without CAP_NET_ADMIN it is cut to net.core.wmem_max.
	// What bounds the other direction is the send buffer of the peer.
	SendBuffer int
}

const (
	etherLen = 14
	tagLen   = 4

	minMTU     = 68
	maxMTU     = ports.MaxFrame - etherLen - tagLen
	defaultMTU = 1500

	minBuffer     = 4096
	maxBuffer     = math.MaxInt32 / 2 // the kernel doubles the number in an int
	defaultBuffer = 1 << 20

	maxPath = 107 // sun_path of unix(7), and its end
)

// complete checks c and puts in the defaults. Paths are those of the socket, its own first.
func (c *Config) complete(paths ...string) (Config, error) {
	var d Config
	if c != nil {
		d = *c
	}
	for _, p := range paths {
		if d.Name == "" {
			d.Name = p
		}
	}
	fail := func(format string, args ...any) (Config, error) {
		return d, fmt.Errorf("sock %q: %s", d.Name, fmt.Sprintf(format, args...))
	}
	for _, p := range paths {
		switch {
		case p == "":
			return fail("the path is empty")
		case len(p) > maxPath:
			return fail("path %q has %d bytes, more than %d", p, len(p), maxPath)
		case strings.IndexByte(p, 0) >= 0:
			return fail("path %q has a zero byte", p)
		}
	}
	for _, f := range []struct {
		name                 string
		value                *int
		least, most, initial int
	}{
		{"MTU", &d.MTU, minMTU, maxMTU, defaultMTU},
		{"SendBuffer", &d.SendBuffer, minBuffer, maxBuffer, defaultBuffer},
	} {
		if *f.value == 0 {
			*f.value = f.initial
		}
		if *f.value < f.least || *f.value > f.most {
			return fail("%s %d is out of %d–%d", f.name, *f.value, f.least, f.most)
		}
	}
	return d, nil
}

// Stats counts what was received and not passed on.
type Stats struct {
	// Runts are frames without a whole Ethernet header.
	Runts uint64

	// TooLong are frames longer than ports.MaxFrame.
	TooLong uint64

	// Violations are streams that were closed because of a length that no frame of QEMU has.
	Violations uint64
}

// Socket is a socket that carries frames. It implements ports.Backend and ports.LinkWatcher, with one
// queue in each direction; the receive queue implements ports.Pollable. Its methods may be called from
// any goroutine, those of a queue from one at a time.
//
// Send returns ports.ErrLinkDown while there is no peer, and comes up short when the peer does not
// read. What the peer of a stream sent before it went away can be received until the next one is
// there. Frames received are lent from memory that all sockets share.
type Socket struct {
	info ports.Info
	link *link
	dev  device
}

var (
	_ ports.Backend     = &Socket{}
	_ ports.LinkWatcher = &Socket{}
)

// device is the system's side of a Socket.
type device interface {
	rxQueue() ports.RxQueue
	txQueue() ports.TxQueue
	stats() Stats
	err() error // why there is no peer
	close() error
}

// ListenStream makes a stream socket at path. The peer is who connects first; when it has gone away,
// the next one. Others wait until then.
//
// A path that begins with @ is an abstract one (unix(7)). A file gets its permissions from the umask
// of the process; who may write it may connect. One that a socket left whose process died is replaced,
// and Close removes it. Errors wrap EADDRINUSE when somebody has the socket open or the file at path is
// none of a socket, and fs.ErrPermission and fs.ErrNotExist as usual.
func ListenStream(path string, cfg *Config) (*Socket, error) {
	c, err := cfg.complete(path)
	if err != nil {
		return nil, err
	}
	return c.open(func(l *link) (device, error) { return listenStream(path, &c, l) })
}

// DialStream connects to the stream socket at path, now if somebody listens there, else, and again
// whenever the peer goes away, as soon as somebody does: it tries after 10 ms, then after ever longer
// pauses of 1 s at most. That nobody listens is no error.
//
// To connect only once, dial by package net and use FromConn.
func DialStream(path string, cfg *Config) (*Socket, error) {
	c, err := cfg.complete(path)
	if err != nil {
		return nil, err
	}
	return c.open(func(l *link) (device, error) { return dialStream(path, &c, l) })
}

// Dgram makes a datagram socket at local whose peer is the one at remote. The peer need not be there
// yet, and may go away and come back, which is found out within a second. Nobody else can send to the
// socket while it is there.
//
// With an empty remote the peer is whoever sends first from a socket that has a path, until it goes
// away: libkrun and vfkit do. Their greeting, the four bytes VFKT, is not taken for a frame.
//
// The kernel holds net.unix.max_dgram_qlen frames, 10 by default, for a peer that does not connect its
// socket, as QEMU does not. The Socket holds another 128 KiB.
//
// For local the rules and errors of ListenStream hold.
func Dgram(local, remote string, cfg *Config) (*Socket, error) {
	paths := []string{local, remote}
	if remote == "" {
		paths = paths[:1]
	}
	c, err := cfg.complete(paths...)
	if err != nil {
		return nil, err
	}
	if local == remote {
		return nil, fmt.Errorf("sock %q: local and remote are both %q", c.Name, local)
	}
	return c.open(func(l *link) (device, error) { return openDgram(local, remote, &c, l) })
}

// FromConn makes a Socket of a connection: a stream socket, also one of TCP, or a datagram socket of
// the unix family that is connected, such as one end of a socketpair. A *net.UnixConn, *net.TCPConn or
// *os.File is a syscall.Conn.
//
// The Socket has a descriptor of its own. That of conn stays with the caller, who should close it, and
// must not use it in any other way.
//
// When the peer goes away, Recv returns an error that wraps io.EOF or that of the system: the queue is
// dead. A datagram socket notices that only when it sends.
func FromConn(conn syscall.Conn, cfg *Config) (*Socket, error) {
	c, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	return c.open(func(l *link) (device, error) { return fromConn(conn, &c, l) })
}

func (c *Config) open(newDevice func(*link) (device, error)) (*Socket, error) {
	l := &link{}
	d, err := newDevice(l)
	if err != nil {
		return nil, wrap(c.Name, err)
	}
	return &Socket{
		info: ports.Info{Name: c.Name, MTU: c.MTU, RxQueues: 1, TxQueues: 1},
		link: l,
		dev:  d,
	}, nil
}

// Info implements ports.Backend.
func (s *Socket) Info() ports.Info { return s.info }

// Rx implements ports.Backend.
func (s *Socket) Rx(int) ports.RxQueue { return s.dev.rxQueue() }

// Tx implements ports.Backend.
func (s *Socket) Tx(int) ports.TxQueue { return s.dev.txQueue() }

// Link implements ports.LinkWatcher: the link is up while there is a peer. Its speed is not known.
func (s *Socket) Link() ports.Link { return s.link.state() }

// WatchLink implements ports.LinkWatcher. Changes are told in their order, one at a time, Close among
// them; changed may use the Socket.
func (s *Socket) WatchLink(changed func(ports.Link)) { s.link.watch(changed) }

// Err returns why there is no peer: the last one went away (io.EOF) or broke the rules, or why none can
// be connected, such as fs.ErrNotExist; ports.ErrClosed after Close. It is nil while there is a peer,
// and while the first is waited for.
func (s *Socket) Err() error { return wrap(s.info.Name, s.dev.err()) }

func wrap(name string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("sock %q: %w", name, err)
}

// Stats returns the counters since the Socket was made.
func (s *Socket) Stats() Stats { return s.dev.stats() }

// Close implements ports.Backend. It disconnects the peer.
func (s *Socket) Close() error {
	err := s.dev.close()
	s.link.set(false)
	s.link.tell()
	return err
}
