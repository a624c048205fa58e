package vhostuser

import (
	"encoding/binary"
	"errors"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hvswitch/hvswitch/internal/linkwatch"
	"github.com/hvswitch/hvswitch/ports"
)

// device is a Port: its queues, which stay, and the connection, which comes and goes.
type device struct {
	cfg   Config
	info  ports.Info
	log   *slog.Logger
	rings []*ring // that on which the guest receives, that on which it sends, of each pair
	rxs   []*rxQueue
	txs   []*txQueue

	admin      atomic.Bool // the cable is in
	up         atomic.Bool
	refreshing sync.Mutex
	watch      linkwatch.Watch

	failure     atomic.Pointer[error]
	connections atomic.Uint64
	broken      atomic.Uint64

	closed atomic.Bool
	stop   chan struct{} // closed with the device
	done   chan struct{} // closed when no connection is served any more

	mu       sync.Mutex
	listener *net.UnixListener // server mode
	session  *session          // nil when there is no connection
}

func newDevice(cfg *Config) *device {
	d := &device{
		cfg: *cfg,
		log: cfg.Log.With("port", cfg.Name),
		info: ports.Info{
			Name: cfg.Name, MAC: cfg.MAC, MTU: cfg.MTU,
			RxQueues: cfg.Queues, TxQueues: cfg.Queues,
			Offloads: cfg.offloads(),
		},
		stop: make(chan struct{}),
		done: make(chan struct{}),
	}
	d.admin.Store(true)
	for i := range 2 * cfg.Queues {
		d.rings = append(d.rings, &ring{dev: d, index: i, call: -1, errfd: -1, hot: &nowhere})
	}
	for i := range cfg.Queues {
		d.rxs = append(d.rxs, &rxQueue{ring: d.rings[2*i+1]})
		d.txs = append(d.txs, &txQueue{dev: d})
	}
	return d
}

// byteOrder refuses machines on which the fields in guest memory, little-endian all of them, are not
// what a load gives.
func byteOrder() error {
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		return errors.ErrUnsupported
	}
	return nil
}

func listen(path string, cfg *Config) (*device, error) {
	if err := byteOrder(); err != nil {
		return nil, err
	}
	addr := &net.UnixAddr{Name: path, Net: "unix"}
	l, err := net.ListenUnix("unix", addr)
	if errors.Is(err, syscall.EADDRINUSE) && abandoned(path) && os.Remove(path) == nil {
		l, err = net.ListenUnix("unix", addr)
	}
	if err != nil {
		return nil, err
	}
	d := newDevice(cfg)
	d.listener = l
	go d.accept(l)
	return d, nil
}

// abandoned reports whether path is a socket at which nobody listens.
func abandoned(path string) bool {
	if f, err := os.Lstat(path); err != nil || f.Mode()&os.ModeSocket == 0 {
		return false
	}
	c, err := net.Dial("unix", path)
	if err == nil {
		c.Close()
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}

func dial(path string, cfg *Config) (*device, error) {
	if err := byteOrder(); err != nil {
		return nil, err
	}
	d := newDevice(cfg)
	go d.connect(&net.UnixAddr{Name: path, Net: "unix"})
	return d, nil
}

// Pauses between attempts to connect, and after an error of accept.
const (
	minPause = 20 * time.Millisecond
	maxPause = time.Second
)

// accept serves connections in server mode.
func (d *device) accept(l *net.UnixListener) {
	defer close(d.done)
	for {
		c, err := l.AcceptUnix()
		switch {
		case err == nil:
			d.serve(c)
		case d.closed.Load():
			return
		case !d.sleep(maxPause): // no descriptor free, perhaps
			return
		}
	}
}

// connect serves connections in client mode.
func (d *device) connect(addr *net.UnixAddr) {
	defer close(d.done)
	for pause := minPause; ; pause = min(2*pause, maxPause) {
		if c, err := net.DialUnix("unix", nil, addr); err == nil {
			if d.serve(c) {
				pause = minPause / 2
			}
		}
		if !d.sleep(pause) {
			return
		}
	}
}

// sleep reports false when the device has been closed meanwhile.
func (d *device) sleep(t time.Duration) bool {
	timer := time.NewTimer(t)
	defer timer.Stop()
	select {
	case <-d.stop:
		return false
	case <-timer.C:
		return true
	}
}

// serve serves one connection to its end. It reports whether there was a message at all.
func (d *device) serve(c *net.UnixConn) bool {
	s := newSession(d, c)
	d.mu.Lock()
	if d.closed.Load() {
		d.mu.Unlock()
		c.Close()
		return false
	}
	d.session = s
	d.mu.Unlock()
	d.connections.Add(1)
	d.log.Debug("front-end connected")

	err := s.run()

	d.mu.Lock()
	d.session = nil
	d.mu.Unlock()
	s.end()
	d.refresh()
	if !d.closed.Load() {
		d.failed(err)
		d.log.Info("front-end gone", "error", err)
	}
	return s.messages > 0
}

func (d *device) failed(err error) { d.failure.Store(&err) }

func (d *device) lastError() error {
	if err := d.failure.Load(); err != nil {
		return *err
	}
	return nil
}

// ringBroke is called under the lock of a ring that was stopped for breaking the rules.
func (d *device) ringBroke(v *ring, err error) {
	d.broken.Add(1)
	e := error(&RingError{Ring: v.index, Err: err})
	d.failed(e)
	if v.errfd >= 0 {
		signal(v.errfd)
	}
	go func() {
		d.log.Warn("ring stopped", "error", e)
		d.refresh()
	}()
}

func (d *device) rx(i int) ports.RxQueue { return d.rxs[i] }
func (d *device) tx(i int) ports.TxQueue { return d.txs[i] }

// downError is what Send says without a ring.
func (d *device) downError() error {
	if d.closed.Load() {
		return ports.ErrClosed
	}
	return ports.ErrLinkDown
}

func (d *device) stats() Stats {
	s := Stats{Connections: d.connections.Load(), Broken: d.broken.Load()}
	for _, q := range d.rxs {
		s.TooLong += q.tooLong.Load()
		s.Malformed += q.malformed.Load()
		s.Discarded += q.discarded.Load()
	}
	return s
}

func (d *device) close() error {
	d.mu.Lock()
	was := d.closed.Swap(true)
	if !was {
		close(d.stop)
		if d.listener != nil {
			d.listener.Close()
		}
		if d.session != nil {
			d.session.conn.Close()
		}
	}
	d.mu.Unlock()
	<-d.done
	if was {
		return nil
	}
	for _, q := range d.rxs {
		v := q.ring
		v.mu.Lock()
		q.closed = true
		v.lent = false
		v.dropHeld()
		v.mu.Unlock()
		q.bell.event()
	}
	d.refresh()
	return nil
}
