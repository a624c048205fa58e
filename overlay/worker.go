package overlay

import (
	"time"

	"github.com/hvswitch/hvswitch/internal/header"
	"github.com/hvswitch/hvswitch/ports"
)

// Worker is the data path of an Engine. Each goroutine that moves frames has one of its own.
//
// Outbound and Inbound take a batch and return what becomes of it, in the order of its frames. They change
// the heads of the frames, which the caller must own, and allocate nothing once the worker has grown to
// the size of its batches. What they return is valid until the next call of either, and as long as the
// frames of the batch.
type Worker struct {
	view
	now time.Duration

	out    []Output
	src    int // of the batch
	spares spares
	split  Splitter
	cut    []*ports.Frame
	h      header.Header

	notes *[]string // of an explanation; nil for frames that are really under way
}

// Output is a frame that leaves the engine, or one that does not: each frame of a batch has at least one.
type Output struct {
	// Frame is what is to be sent; of a dropped one, the frame of the batch, perhaps changed.
	Frame *ports.Frame

	// Port is the vNIC that gets the frame; nil when the provider network does, or nobody.
	Port *Port

	// Drop is the reason why the frame goes nowhere; zero when it goes.
	Drop Drop

	// Source is the place in the batch of the frame that this is about.
	Source int
}

// NewWorker returns a worker of the engine.
func (e *Engine) NewWorker() *Worker {
	return &Worker{view: view{e: e, ca: new(cache), mac: new(cache)}}
}

func (w *Worker) begin(now time.Duration) {
	w.snap, w.now = w.e.snap.Load(), now
	clear(w.out)
	w.out = w.out[:0]
	clear(w.cut)
	w.spares.reset()
	w.split.Reset()
}

func (w *Worker) drop(f *ports.Frame, d Drop) {
	w.out = append(w.out, Output{Frame: f, Drop: d, Source: w.src})
}

func (w *Worker) toPort(f *ports.Frame, p *Port) {
	w.out = append(w.out, Output{Frame: f, Port: p, Source: w.src})
}

func (w *Worker) toProvider(f *ports.Frame) {
	w.out = append(w.out, Output{Frame: f, Source: w.src})
}

// spares are frames of the worker's own.
type spares struct {
	frames []*ports.Frame
	bufs   [][]byte
	used   int
}

const spareLen = 2 * ports.HeadLen // of a head; an ICMP error quotes what fits

// next returns an empty frame with room for spareLen bytes of head, behind the headroom in buf.
func (s *spares) next() (f *ports.Frame, buf []byte) {
	if s.used == len(s.frames) {
		f, buf := new(ports.Frame), make([]byte, ports.Headroom+spareLen)
		f.SetHead(buf, ports.Headroom, 0)
		s.frames, s.bufs = append(s.frames, f), append(s.bufs, buf)
	}
	f, buf = s.frames[s.used], s.bufs[s.used]
	s.used++
	return f, buf
}

// reset takes back all frames. None of them refers to memory of a guest any more.
func (s *spares) reset() {
	for ; s.used > 0; s.used-- {
		s.frames[s.used-1].SetHead(s.bufs[s.used-1], ports.Headroom, 0)
	}
}

// fork returns a frame with a head of its own.
func (s *spares) fork(f *ports.Frame) *ports.Frame {
	g, _ := s.next()
	g.Fork(f)
	return g
}
