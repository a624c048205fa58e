package vswitch

import (
	"errors"

	"github.com/hvswitch/hvswitch/internal/segment"
	"github.com/hvswitch/hvswitch/ports"
)

// adapt sends frames to a port that may not take them all as they are: what the port cannot do for a
// frame is done here, in software.
func (w *worker) adapt(q *txQueue, to *portView, frames []*ports.Frame) {
	out := w.adapted[:0]
	flush := func() {
		q.send(to.port, out, lenOf(out))
		clear(out)
		out = out[:0]
		w.segmenter.Reset()
	}
	for _, f := range frames {
		if f.Len() > to.maxLen && f.Offload.Segment == ports.SegmentNone {
			to.count.drop(DropTooBig, 1)
			continue
		}
		more, err := w.segmenter.Append(out, f, to.info.Offloads)
		if errors.Is(err, segment.ErrFull) {
			flush()
			more, err = w.segmenter.Append(out, f, to.info.Offloads)
		}
		if err != nil {
			to.count.drop(DropUnsupportedOffload, 1)
			continue
		}
		out = more
	}
	flush()
	w.adapted = out
}

func lenOf(frames []*ports.Frame) (n uint64) {
	for _, f := range frames {
		n += uint64(f.Len())
	}
	return n
}
