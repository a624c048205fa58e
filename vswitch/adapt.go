package vswitch

import (
	"errors"

	"github.com/hvswitch/hvswitch/internal/segment"
	"github.com/hvswitch/hvswitch/ports"
)

// adapt sends frames to a port that may not take them all as they are: what the port cannot do for a
// frame is done here, in software. lost may be nil.
func (w *worker) adapt(b *burst, q *txQueue, to *portView, frames []*ports.Frame, lost *losses) {
	out := w.adapted[:0]
	var pieces *losses // of out
	if lost != nil {
		pieces = &w.pieces
		*pieces = losses{drops: lost.drops, owners: pieces.owners[:0]}
	}
	flush := func() {
		w.sendWhole(b, q, to, out, lenOf(out), pieces)
		if pieces != nil {
			pieces.owners = pieces.owners[:0]
		}
		clear(out)
		out = out[:0]
		w.segmenter.Reset()
	}
	for i, f := range frames {
		if f.Len() > to.maxLen && f.Offload.Segment == ports.SegmentNone {
			to.count.drop(DropTooBig, 1)
			lost.add(i, 1, DropTooBig)
			continue
		}
		more, err := w.segmenter.Append(out, f, to.info.Offloads)
		if errors.Is(err, segment.ErrFull) {
			flush()
			more, err = w.segmenter.Append(out, f, to.info.Offloads)
		}
		if err != nil {
			to.count.drop(DropUnsupportedOffload, 1)
			lost.add(i, 1, DropUnsupportedOffload)
			continue
		}
		if pieces != nil {
			for range len(more) - len(out) {
				pieces.owners = append(pieces.owners, lost.owner(i))
			}
		}
		out = more
	}
	flush()
	if pieces != nil {
		lost.any = lost.any || pieces.any
	}
	w.adapted = out
}

func lenOf(frames []*ports.Frame) (n uint64) {
	for _, f := range frames {
		n += uint64(f.Len())
	}
	return n
}
