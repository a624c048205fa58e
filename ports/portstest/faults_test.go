package portstest

import (
	"errors"
	"sync"

	"github.com/hvswitch/hvswitch/ports"
)

// faulty is a pipe with one fault; each hook replaces what the pipe does.
type faulty struct {
	*ports.PipeEnd
	send   func(q ports.TxQueue, frames []*ports.Frame) (int, error)
	recv   func(q ports.RxQueue, b *ports.Batch) error
	arm    func(q ports.Notifier) bool
	bell   func(ring func()) func()
	rx, tx func(i int) int
	close  func() error
	info   func(*ports.Info)
	watch  func(changed func(ports.Link)) func(ports.Link)
	before func() // the peer takes a frame
}

func (f *faulty) Info() ports.Info {
	i := f.PipeEnd.Info()
	if f.info != nil {
		f.info(&i)
	}
	return i
}

func (f *faulty) Close() error {
	if f.close != nil {
		return f.close()
	}
	return f.PipeEnd.Close()
}

func (f *faulty) WatchLink(changed func(ports.Link)) {
	if f.watch != nil && changed != nil {
		changed = f.watch(changed)
	}
	f.PipeEnd.WatchLink(changed)
}

func (f *faulty) Rx(i int) ports.RxQueue {
	if f.rx != nil {
		i = f.rx(i)
	}
	return faultyRx{f, f.PipeEnd.Rx(i)}
}

func (f *faulty) Tx(i int) ports.TxQueue {
	if f.tx != nil {
		i = f.tx(i)
	}
	return faultyTx{f, f.PipeEnd.Tx(i)}
}

type faultyRx struct {
	f *faulty
	ports.RxQueue
}

func (q faultyRx) Recv(b *ports.Batch) error {
	if q.f.recv != nil {
		return q.f.recv(q.RxQueue, b)
	}
	return q.RxQueue.Recv(b)
}

func (q faultyRx) Arm() bool {
	if q.f.arm != nil {
		return q.f.arm(q.RxQueue.(ports.Notifier))
	}
	return q.RxQueue.(ports.Notifier).Arm()
}

func (q faultyRx) SetBell(ring func()) {
	if q.f.bell != nil && ring != nil {
		ring = q.f.bell(ring)
	}
	q.RxQueue.(ports.Notifier).SetBell(ring)
}

type faultyTx struct {
	f *faulty
	ports.TxQueue
}

func (q faultyTx) Send(frames []*ports.Frame) (int, error) {
	if q.f.send != nil {
		return q.f.send(q.TxQueue, frames)
	}
	return q.TxQueue.Send(frames)
}

var errOther = errors.New("some other error")

// garbage is where faults that allocate put what they allocate.
var garbage []byte

// faults are mistakes that authors of backends make, each with the part that must find it.
var faults = []struct {
	name  string
	part  string
	cfg   ports.PipeConfig
	plant func(f *faulty)
}{
	{name: "none: the control", part: ""},
	// First, because other faults leave goroutines behind that end later.
	{name: "leaves a goroutine behind", part: "CloseFreesEverything", plant: func(f *faulty) {
		go func() { select {} }()
	}},
	{name: "MTU of 0", part: "Info", plant: func(f *faulty) {
		f.info = func(i *ports.Info) { i.MTU = 0 }
	}},
	{name: "segmentation without checksum", part: "Info", plant: func(f *faulty) {
		f.info = func(i *ports.Info) { i.Offloads = ports.OffloadTCP4 }
	}},
	{name: "sends in reverse", part: "SendKeepsOrder", plant: func(f *faulty) {
		f.send = func(q ports.TxQueue, frames []*ports.Frame) (int, error) {
			for i := range frames {
				q.Send(frames[len(frames)-1-i:][:1])
			}
			return len(frames), nil
		}
	}},
	{name: "receives newest first", part: "RecvKeepsOrder", plant: func(f *faulty) {
		f.recv = func(q ports.RxQueue, b *ports.Batch) error {
			all := ports.NewBatch(b.Room())
			err := q.Recv(all)
			for i := range all.Frames() {
				b.Lend(all.Frames()[all.Len()-1-i])
			}
			return err
		}
	}},
	{name: "loses one sent frame of 100", part: "SendLosesNothingBelowDepth", plant: func(f *faulty) {
		n := 0
		f.send = func(q ports.TxQueue, frames []*ports.Frame) (int, error) {
			for _, fr := range frames {
				if n++; n%100 != 0 {
					q.Send([]*ports.Frame{fr})
				}
			}
			return len(frames), nil
		}
	}},
	{name: "loses one received frame of 100", part: "RecvLosesNothingBelowDepth", plant: func(f *faulty) {
		n := 0
		f.recv = func(q ports.RxQueue, b *ports.Batch) error {
			all := ports.NewBatch(b.Room())
			err := q.Recv(all)
			for _, fr := range all.Frames() {
				if n++; n%100 != 0 {
					b.Lend(fr)
				}
			}
			return err
		}
	}},
	{name: "drops silently when full", part: "SendComesUpShortWhenFull", plant: func(f *faulty) {
		f.send = func(q ports.TxQueue, frames []*ports.Frame) (int, error) {
			q.Send(frames)
			return len(frames), nil
		}
	}},
	{name: "says that it sent more than there was", part: "AllAtOnce", plant: func(f *faulty) {
		f.send = func(q ports.TxQueue, frames []*ports.Frame) (int, error) {
			n, err := q.Send(frames)
			return n + 1, err
		}
	}},
	{name: "full is an error", part: "SendNeverBlocks", plant: func(f *faulty) {
		f.send = func(q ports.TxQueue, frames []*ports.Frame) (int, error) {
			n, err := q.Send(frames)
			if n < len(frames) && err == nil {
				err = errOther
			}
			return n, err
		}
	}},
	{name: "waits when full", part: "SendNeverBlocks", plant: func(f *faulty) {
		f.send = func(q ports.TxQueue, frames []*ports.Frame) (int, error) {
			n, err := q.Send(frames)
			if n < len(frames) && err == nil {
				select {}
			}
			return n, err
		}
	}},
	{name: "loses what finds no room in the batch", part: "RecvHeedsRoom", plant: func(f *faulty) {
		f.recv = func(q ports.RxQueue, b *ports.Batch) error {
			all := ports.NewBatch(256)
			err := q.Recv(all)
			for _, fr := range all.Frames() {
				b.Lend(fr)
			}
			return err
		}
	}},
	{name: "one of two transmit queues is dead", part: "AllQueues", cfg: ports.PipeConfig{Queues: 2}, plant: func(f *faulty) {
		dead := f.PipeEnd.Tx(1)
		f.send = func(q ports.TxQueue, frames []*ports.Frame) (int, error) {
			if q == dead {
				return len(frames), nil
			}
			return q.Send(frames)
		}
	}},
	{name: "one of two receive queues is never used", part: "AllQueues", cfg: ports.PipeConfig{Queues: 2}, plant: func(f *faulty) {
		f.rx = func(i int) int { return 0 }
	}},
	{name: "forgets what others lent to the batch", part: "OneBatchForAllQueues", cfg: ports.PipeConfig{Queues: 2}, plant: func(f *faulty) {
		f.recv = func(q ports.RxQueue, b *ports.Batch) error { b.Reset(); return q.Recv(b) }
	}},
	{name: "queues share state", part: "AllAtOnce", cfg: ports.PipeConfig{Queues: 2}, plant: func(f *faulty) {
		var mu sync.Mutex
		n := 0
		f.send = func(q ports.TxQueue, frames []*ports.Frame) (int, error) {
			mu.Lock()
			defer mu.Unlock()
			if n++; n%64 == 0 { // one overwrote what the other had stored
				return len(frames), nil
			}
			return q.Send(frames)
		}
	}},
	{name: "sends later what it should have copied", part: "SendKeepsNoFrame", plant: func(f *faulty) {
		var kept []*ports.Frame
		var to ports.TxQueue
		f.send = func(q ports.TxQueue, frames []*ports.Frame) (int, error) {
			kept, to = append(kept, frames...), q
			return len(frames), nil
		}
		f.before = func() {
			if to != nil {
				to.Send(kept)
				kept = kept[:0]
			}
		}
	}},
	{name: "takes the tag of the frames it sends", part: "SendChangesNoFrame", plant: func(f *faulty) {
		f.send = func(q ports.TxQueue, frames []*ports.Frame) (int, error) {
			n, err := q.Send(frames)
			for _, fr := range frames {
				fr.VLAN = ports.Tag{}
			}
			return n, err
		}
	}},
	{name: "sorts the slice it is given", part: "SendChangesNoFrame", plant: func(f *faulty) {
		f.send = func(q ports.TxQueue, frames []*ports.Frame) (int, error) {
			n, err := q.Send(frames)
			if len(frames) > 1 {
				frames[0], frames[1] = frames[1], frames[0]
			}
			return n, err
		}
	}},
	{name: "lends one frame again and again", part: "RecvLendsUntilRelease", plant: func(f *faulty) {
		var own [64]ports.Frame
		f.recv = func(q ports.RxQueue, b *ports.Batch) error {
			all := ports.NewBatch(min(b.Room(), len(own)))
			err := q.Recv(all)
			for i, fr := range all.Frames() {
				own[i].CopyFrom(fr)
				b.Lend(&own[i])
			}
			q.Release()
			return err
		}
	}},
	{name: "sends only the first segment", part: "SendSegments", plant: func(f *faulty) {
		f.send = copying(func(c, fr *ports.Frame) {
			c.SetHead(append([]byte(nil), fr.Head()...), 0, len(fr.Head()))
			c.VLAN = fr.VLAN
			if body := fr.Body(); len(body) > 0 {
				c.AppendBody(body[0])
			}
		})
	}},
	{name: "forgets the tag", part: "SendTags", plant: func(f *faulty) {
		f.send = copying(func(c, fr *ports.Frame) { c.CopyFrom(fr); c.VLAN = ports.Tag{} })
	}},
	{name: "knows 0x8100 only", part: "SendTags", plant: func(f *faulty) {
		f.send = copying(func(c, fr *ports.Frame) {
			if c.CopyFrom(fr); c.VLAN.Present() {
				c.VLAN.TPID = ports.TPID8021Q
			}
		})
	}},
	{name: "loses the priority", part: "RecvTags", plant: func(f *faulty) {
		f.recv = func(q ports.RxQueue, b *ports.Batch) error {
			err := q.Recv(b)
			for _, fr := range b.Frames() {
				fr.VLAN.TCI &= 0xfff
			}
			return err
		}
	}},
	{name: "takes VLAN 0 for no tag", part: "RecvTags", plant: func(f *faulty) {
		f.recv = func(q ports.RxQueue, b *ports.Batch) error {
			err := q.Recv(b)
			for _, fr := range b.Frames() {
				if fr.VLAN.TCI == 0 {
					fr.VLAN = ports.Tag{}
				}
			}
			return err
		}
	}},
	{name: "counts the tag to the MTU", part: "SendMTU", plant: func(f *faulty) {
		f.send = func(q ports.TxQueue, frames []*ports.Frame) (int, error) {
			for i, fr := range frames {
				if fr.WireLen() > 1514 {
					n, _ := q.Send(frames[:i])
					return n, ports.ErrFrameSize
				}
			}
			return q.Send(frames)
		}
	}},
	{name: "refuses the whole batch for one frame", part: "SendMTU", plant: func(f *faulty) {
		f.send = func(q ports.TxQueue, frames []*ports.Frame) (int, error) {
			for _, fr := range frames {
				if !fr.Fits(1500) {
					return 0, ports.ErrFrameSize
				}
			}
			return q.Send(frames)
		}
	}},
	{name: "drops what is too long", part: "SendMTU", plant: func(f *faulty) {
		f.send = func(q ports.TxQueue, frames []*ports.Frame) (int, error) {
			for _, fr := range frames {
				q.Send([]*ports.Frame{fr})
			}
			return len(frames), nil
		}
	}},
	{name: "cuts off what is too long", part: "RecvMTU", plant: func(f *faulty) {
		f.recv = func(q ports.RxQueue, b *ports.Batch) error {
			err := q.Recv(b)
			for _, fr := range b.Frames() {
				fr.SetHead(fr.Head(), 0, min(fr.Len(), 1500))
			}
			return err
		}
	}},
	{name: "a runt is fatal", part: "SendRunts", plant: func(f *faulty) {
		f.send = func(q ports.TxQueue, frames []*ports.Frame) (int, error) {
			if len(frames) > 0 && frames[0].Len() < 14 {
				return 0, errOther
			}
			return q.Send(frames)
		}
	}},
	{name: "dies of a runt", part: "RecvRunts", plant: func(f *faulty) {
		f.recv = func(q ports.RxQueue, b *ports.Batch) error {
			err := q.Recv(b)
			for _, fr := range b.Frames() {
				if fr.Len() < 14 {
					return errOther
				}
			}
			return err
		}
	}},
	{name: "forgets the offload request", part: "SendOffload", cfg: ports.PipeConfig{Offloads: ports.OffloadAll}, plant: func(f *faulty) {
		f.send = copying(func(c, fr *ports.Frame) { c.CopyFrom(fr); c.Offload.Segment = ports.SegmentNone })
	}},
	{name: "counts checksum offsets without the tag", part: "SendOffload", cfg: ports.PipeConfig{Offloads: ports.OffloadAll}, plant: func(f *faulty) {
		f.send = copying(func(c, fr *ports.Frame) {
			if c.CopyFrom(fr); c.VLAN.Present() && c.Offload.NeedsChecksum {
				c.Offload.ChecksumStart -= 4
			}
		})
	}},
	{name: "ignores requests it cannot do", part: "SendRefusesOffload", plant: func(f *faulty) {
		f.send = copying(func(c, fr *ports.Frame) { c.CopyFrom(fr); c.Offload = ports.Offload{} })
	}},
	{name: "a request clings to the next frame", part: "RecvOffload", cfg: ports.PipeConfig{Offloads: ports.OffloadAll}, plant: func(f *faulty) {
		var last ports.Offload
		f.recv = func(q ports.RxQueue, b *ports.Batch) error {
			err := q.Recv(b)
			for _, fr := range b.Frames() {
				if fr.Offload.IsZero() {
					fr.Offload = last
				}
				last = fr.Offload
			}
			return err
		}
	}},
	{name: "rings twice", part: "Bell", plant: func(f *faulty) {
		f.bell = func(ring func()) func() { return func() { ring(); ring() } }
	}},
	{name: "always asks to wait", part: "Bell", plant: func(f *faulty) {
		f.arm = func(q ports.Notifier) bool { q.Arm(); return false }
	}},
	{name: "forgets every 50th call of Arm", part: "NoWakeUpIsLost", plant: func(f *faulty) {
		n := 0
		f.arm = func(q ports.Notifier) bool {
			if n++; n%50 == 0 {
				return false
			}
			return q.Arm()
		}
	}},
	{name: "tells nothing of the link", part: "LinkEvents", plant: func(f *faulty) {
		f.watch = func(func(ports.Link)) func(ports.Link) { return nil }
	}},
	{name: "tells the old state of the link", part: "LinkEvents", plant: func(f *faulty) {
		f.watch = func(changed func(ports.Link)) func(ports.Link) {
			return func(l ports.Link) { l.Up = !l.Up; changed(l) }
		}
	}},
	{name: "a queue dies with the link", part: "LinkDown", plant: func(f *faulty) {
		f.recv = func(q ports.RxQueue, b *ports.Batch) error {
			if !f.Link().Up {
				return ports.ErrLinkDown
			}
			return q.Recv(b)
		}
	}},
	{name: "complains of a second Close", part: "CloseTwice", plant: func(f *faulty) {
		var mu sync.Mutex
		done := false
		f.close = func() error {
			mu.Lock()
			defer mu.Unlock()
			if done {
				return errOther
			}
			done = true
			return f.PipeEnd.Close()
		}
	}},
	{name: "Close does not wake", part: "CloseWakesReceiver", plant: func(f *faulty) {
		f.close = func() error {
			f.PipeEnd.Rx(0).(ports.Notifier).SetBell(nil)
			return f.PipeEnd.Close()
		}
	}},
	{name: "takes frames after Close", part: "CloseUnused", plant: func(f *faulty) {
		f.send = func(q ports.TxQueue, frames []*ports.Frame) (int, error) {
			n, err := q.Send(frames)
			if err != nil {
				return len(frames), nil
			}
			return n, nil
		}
	}},
	{name: "receives nothing for ever after Close", part: "CloseUnderTraffic", plant: func(f *faulty) {
		f.recv = func(q ports.RxQueue, b *ports.Batch) error { q.Recv(b); return nil }
	}},
	{name: "allocates on Send", part: "SendAllocatesNothing", plant: func(f *faulty) {
		f.send = func(q ports.TxQueue, frames []*ports.Frame) (int, error) {
			garbage = make([]byte, 64)
			return q.Send(frames)
		}
	}},
	{name: "allocates on Recv", part: "RecvAllocatesNothing", plant: func(f *faulty) {
		f.recv = func(q ports.RxQueue, b *ports.Batch) error {
			garbage = make([]byte, 64)
			return q.Recv(b)
		}
	}},
}

// copying sends what change makes of each frame.
func copying(change func(c, f *ports.Frame)) func(ports.TxQueue, []*ports.Frame) (int, error) {
	return func(q ports.TxQueue, frames []*ports.Frame) (int, error) {
		for i, f := range frames {
			c := new(ports.Frame)
			change(c, f)
			if n, err := q.Send([]*ports.Frame{c}); n != 1 || err != nil {
				return i, err
			}
		}
		return len(frames), nil
	}
}
