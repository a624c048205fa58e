package capture

import (
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vswitch/extension"
)

const (
	// DefaultSnapLen is enough for the headers of most frames.
	DefaultSnapLen = 128

	// MaxSnapLen is the length of the longest frame, with its tag.
	MaxSnapLen = ports.MaxFrame + 4

	// DefaultBuffer and MinBuffer are sizes of Config.Buffer, in bytes. The least one has room for a
	// frame of any length.
	DefaultBuffer = 4 << 20
	MinBuffer     = 128 << 10

	// DefaultFlushInterval is how long a frame waits to be written by default.
	DefaultFlushInterval = 100 * time.Millisecond
)

// Config says what a Capture records. A nil *Config and zero fields mean the defaults.
type Config struct {
	// Filter says which frames are recorded; by default all.
	Filter Filter

	// SnapLen is how many bytes of each frame are recorded, its tag included: 1 to MaxSnapLen, which
	// records frames as a whole; default DefaultSnapLen. More than MaxSnapLen is MaxSnapLen.
	SnapLen int

	// Buffer bounds the memory, in bytes, for frames that wait to be written: at least MinBuffer;
	// default DefaultBuffer. A frame of 64 bytes takes 108 there. What does not fit is lost to the
	// capture.
	Buffer int

	// FlushInterval is how long frames wait before they are written, if there are few of them; default
	// DefaultFlushInterval.
	FlushInterval time.Duration
}

// Capture records frames. It implements extension.Capture, extension.Fates and extension.Lifecycle, may be
// an extension of several switches at once, and its methods may be called from any goroutine.
type Capture struct {
	match   matcher
	snapLen int
	start   time.Time
	stopped atomic.Bool // nothing is recorded any more

	mu       sync.Mutex
	ring     ring
	pending  []pending
	reasons  map[string]uint16
	comments [][]byte // of reasons, by their number, as pcapng options
	ports    []*port  // by their interface ID
	known    map[extension.Port]*port
	wakeAt   int // bytes in the ring that the writer waits for
	written  uint64
	err      error

	writer writer
	wake   chan struct{}
	close  chan struct{}
	closed sync.Once
	done   chan struct{}
}

var (
	_ extension.Capture   = (*Capture)(nil)
	_ extension.Fates     = (*Capture)(nil)
	_ extension.Lifecycle = (*Capture)(nil)
)

// New returns a Capture that writes to w, from a goroutine of its own, until Close or until w returns an
// error. w may block. It is not closed.
func New(w io.Writer, cfg *Config) (*Capture, error) {
	c, err := newCapture(w, cfg)
	if err != nil {
		return nil, err
	}
	go c.run()
	return c, nil
}

// newCapture returns a Capture that keeps everything in its buffer until its method run is called.
func newCapture(w io.Writer, cfg *Config) (*Capture, error) {
	var o Config
	if cfg != nil {
		o = *cfg
	}
	if o.SnapLen == 0 {
		o.SnapLen = DefaultSnapLen
	}
	if o.Buffer == 0 {
		o.Buffer = DefaultBuffer
	}
	if o.FlushInterval == 0 {
		o.FlushInterval = DefaultFlushInterval
	}
	switch {
	case o.SnapLen < 0:
		return nil, fmt.Errorf("capture: snap length %d is negative", o.SnapLen)
	case o.Buffer < MinBuffer:
		return nil, fmt.Errorf("capture: buffer of %d bytes is smaller than %d", o.Buffer, MinBuffer)
	case o.FlushInterval < 0:
		return nil, fmt.Errorf("capture: flush interval %v is negative", o.FlushInterval)
	}
	match, err := compile(&o.Filter)
	if err != nil {
		return nil, fmt.Errorf("capture: filter: %w", err)
	}
	return &Capture{
		match:    match,
		snapLen:  min(o.SnapLen, MaxSnapLen),
		start:    time.Now(),
		ring:     ring{buf: make([]byte, o.Buffer)},
		reasons:  map[string]uint16{},
		comments: [][]byte{alive: nil},
		known:    map[extension.Port]*port{},
		wakeAt:   never,
		writer:   writer{w: w, filter: o.Filter.String(), interval: o.FlushInterval},
		wake:     make(chan struct{}, 1),
		close:    make(chan struct{}),
		done:     make(chan struct{}),
	}, nil
}

// now is the time of the frames at hand, in nanoseconds since 1970: that of the wall clock when the capture
// began and what has passed since, so that it never goes back.
func (c *Capture) now() int64 { return c.start.UnixNano() + int64(time.Since(c.start)) }

// Close ends the capture: it writes what has been recorded and the statistics, and returns the error that w
// returned, if any. It waits for w. Frames that are under way in the switch are lost, so the capture is to
// be removed from its switches before. Another call waits for the first and returns the same.
func (c *Capture) Close() error {
	c.closed.Do(func() { close(c.close) })
	<-c.done
	return c.Err()
}

// Done returns a channel that is closed when nothing is written any more: after Close, or after w has
// returned an error. The switch is not concerned by either.
func (c *Capture) Done() <-chan struct{} { return c.done }

// Err returns the error that w returned; nil as long as it returned none.
func (c *Capture) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Stats are the counters of a Capture, in frames.
type Stats struct {
	Received uint64 // seen at the ports, in the directions, that the filter admits
	Accepted uint64 // accepted by the filter
	Written  uint64 // written without an error
	Lost     uint64 // accepted, but not written: the buffer was full, or the capture had ended
}

// Stats returns the counters. While the capture runs, the frames that are neither Written nor Lost wait in
// the buffer.
func (c *Capture) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := Stats{Written: c.written}
	for _, p := range c.ports {
		s.Received += p.received
		s.Accepted += p.accepted
		s.Lost += p.lost
	}
	select {
	case <-c.done:
		s.Lost = s.Accepted - s.Written
	default:
	}
	return s
}
