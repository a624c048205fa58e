package ports

// Batch is what a receive queue fills: frames that the backend lends from memory of its own, or
// reads into memory of the batch. A worker owns one and uses it for all its queues, so an idle queue
// owns no buffers.
//
// A Batch is used by one goroutine at a time.
type Batch struct {
	frames []*Frame // of all, as many as the limit allows
	all    []*Frame
	own    []Frame
	used   int // of own
	arena  []byte
	next   int // first free byte of arena
	open   int // offset of the buffer that Buffer handed out last
}

const (
	// arenaSize bounds the bytes a batch reads before they are passed on, so that they are
	// still in the processor's cache then.
	arenaSize = 256<<10 + Headroom + MaxFrame

	arenaAlign = 64 // a cache line
)

// NewBatch returns an empty batch for at most size frames.
func NewBatch(size int) *Batch {
	all := make([]*Frame, size)
	return &Batch{frames: all[:0], all: all}
}

// Frames returns the frames of the batch in the order in which they arrived. The slice is valid
// until Reset.
func (b *Batch) Frames() []*Frame { return b.frames }

// Len returns the number of frames in the batch.
func (b *Batch) Len() int { return len(b.frames) }

// Room returns how many more frames the batch takes.
func (b *Batch) Room() int { return cap(b.frames) - len(b.frames) }

// Limit makes the batch, which must be empty, take at most n frames from now on, at least one and no more than it was
// made for.
func (b *Batch) Limit(n int) {
	b.frames = b.all[:0:min(max(n, 1), len(b.all))]
}

// Lend adds a frame that belongs to the backend. It reports false, and adds nothing, when the batch
// is full.
func (b *Batch) Lend(f *Frame) bool {
	if len(b.frames) == cap(b.frames) {
		return false
	}
	b.frames = append(b.frames, f)
	return true
}

// Buffer returns n bytes of the batch's memory with Headroom bytes of it in front, for a backend that
// reads frames from a descriptor, or nil when the batch is full of frames or of bytes; an empty batch
// takes any n. Commit makes a frame of them; a second call of Buffer without Commit returns the same
// memory.
func (b *Batch) Buffer(n int) []byte {
	if len(b.frames) == cap(b.frames) {
		return nil
	}
	if need := b.next + Headroom + n; need > len(b.arena) {
		if b.next > 0 {
			return nil
		}
		b.arena = make([]byte, max(arenaSize, need))
	}
	b.open = b.next + Headroom
	return b.arena[b.open : b.open+n]
}

// Commit makes the first n bytes that Buffer returned last a frame of the batch and returns it, for
// the caller to set its tag, offload request and body.
func (b *Batch) Commit(n int) *Frame {
	if b.own == nil {
		b.own = make([]Frame, len(b.all))
	}
	f := &b.own[b.used]
	b.used++
	f.SetHead(b.arena[b.next:b.open+n], Headroom, n)
	b.next = (b.open + n + arenaAlign - 1) &^ (arenaAlign - 1)
	b.frames = append(b.frames, f)
	return f
}

// Reset empties the batch. It must be called before the frames in it are released.
func (b *Batch) Reset() {
	b.frames = b.frames[:0]
	b.used, b.next = 0, 0
}
