package main

import (
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containers/gvisor-tap-vsock/pkg/tap"
	"github.com/containers/gvisor-tap-vsock/pkg/types"
	"github.com/sirupsen/logrus"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// gvisorPeer drives the switch of gvisor-tap-vsock over connections in memory: Read hands out
// prepared frames, Write takes them. The copy that our guests make on receipt, Read makes here.
type gvisorPeer struct {
	load    load
	watch   *stopwatch
	all     []*memConn
	talkers int
	stop    context.CancelFunc
}

const gvisorName = "gvisor-tap-vsock"

func newGvisorPeer(l load) (*gvisorPeer, error) {
	logrus.SetLevel(logrus.PanicLevel)
	ctx, cancel := context.WithCancel(context.Background())
	p := &gvisorPeer{load: l, watch: newStopwatch(), stop: cancel}
	sw := tap.NewSwitch(false)
	sw.Connect(noGateway{})
	ts := l.talkers()
	p.talkers = len(ts)
	for i := range l.ports {
		c := &memConn{watch: p.watch, start: make(chan struct{}, 1), closed: make(chan struct{})}
		frames := []macPair{{}}
		if i < len(ts) {
			c.pairs, c.rewrite = ts[i].pairs, l.rewrite
			frames = ts[i].pairs[:l.ring()]
		}
		for _, pair := range frames {
			c.frames = append(c.frames, l.frame(pair))
		}
		p.all = append(p.all, c)
		go sw.Accept(ctx, c, types.VfkitProtocol) // the faster of its protocols
	}
	// As with ours, but it drops frames to unknown addresses instead of flooding them.
	for i, c := range p.all {
		undo := c.introduce(l.introductions(i))
		if _, err := p.watch.wait(time.Now()); err != nil {
			return nil, err
		}
		undo()
	}
	return p, nil
}

func (p *gvisorPeer) move(n int) (int, time.Duration, error) {
	each := p.load.share(n, p.talkers)
	p.watch.busy.Store(int64(p.talkers))
	start := time.Now()
	for _, c := range p.all[:p.talkers] {
		c.send(each)
	}
	d, err := p.watch.wait(start)
	return each * p.talkers, d, err
}

func (p *gvisorPeer) close() {
	p.stop()
	for _, c := range p.all {
		c.Close()
	}
}

type noGateway struct{}

func (noGateway) DeliverNetworkPacket(tcpip.NetworkProtocolNumber, *stack.PacketBuffer) {}
func (noGateway) LinkAddress() tcpip.LinkAddress                                        { return "\x02\xff\xff\xff\xff\xfe" }
func (noGateway) IP() string                                                            { return "10.0.0.254" }

type memConn struct {
	frames  [][]byte
	pairs   []macPair
	rewrite bool
	pos     int // next frame
	pair    int
	working bool
	left    atomic.Int64
	wrote   atomic.Int64
	start   chan struct{}
	closed  chan struct{}
	once    sync.Once
	watch   *stopwatch
}

func (c *memConn) Read(b []byte) (int, error) {
	left := c.left.Load()
	for left == 0 {
		if c.working {
			c.working = false
			c.watch.finish() // all before have been forwarded
		}
		select {
		case <-c.start:
		case <-c.closed:
			return 0, io.EOF
		}
		left = c.left.Load()
	}
	c.working = true
	c.left.Store(left - 1)
	f := c.frames[c.pos]
	if c.pos++; c.pos == len(c.frames) {
		c.pos = 0
	}
	if c.rewrite {
		copy(f, c.pairs[c.pair][:])
		if c.pair++; c.pair == len(c.pairs) {
			c.pair = 0
		}
	}
	return copy(b, f), nil
}

func (c *memConn) Write(b []byte) (int, error) {
	c.wrote.Add(1)
	return len(b), nil
}

func (c *memConn) send(n int) {
	c.left.Store(int64(n))
	select {
	case c.start <- struct{}{}:
	default:
	}
}

func (c *memConn) introduce(pairs []macPair) (undo func()) {
	was, rewrite := c.pairs, c.rewrite
	c.pairs, c.rewrite = pairs, true
	c.watch.busy.Store(1)
	c.send(len(pairs))
	return func() {
		c.pairs, c.rewrite, c.pair, c.pos = was, rewrite, 0, 0
		for i := range min(len(was), len(c.frames)) {
			copy(c.frames[i], was[i][:])
		}
	}
}

func (c *memConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return nil
}

func (c *memConn) LocalAddr() net.Addr              { return memAddr{} }
func (c *memConn) RemoteAddr() net.Addr             { return memAddr{} }
func (c *memConn) SetDeadline(time.Time) error      { return nil }
func (c *memConn) SetReadDeadline(time.Time) error  { return nil }
func (c *memConn) SetWriteDeadline(time.Time) error { return nil }

type memAddr struct{}

func (memAddr) Network() string { return "mem" }
func (memAddr) String() string  { return "mem" }
