package main

import (
	"fmt"
	"runtime"
	"time"

	"github.com/hvswitch/hvswitch/ports"
)

// pipeBench moves frames through two pipes and the switch between them.
func pipeBench(l load) *bench {
	return &bench{
		rows: memoryRow(fmt.Sprintf("memory/%dB/pipe/batch=%d/cores=%d", l.size, l.batch, l.cores), "ns/frame"),
		rep:  memoryRep, shortRep: memoryShortRep,
		open: func(options) (*contest, error) {
			s, err := newScene(l.cores)
			if err != nil {
				return nil, err
			}
			// The loads of both kinds of row have one talker and one worker.
			one := l
			one.cores = 1
			c := &contest{close: s.close, copy: perFrame("bare copy", 1, bareCopy(one))}
			if c.ours, err = s.pipes(one, l.cores); err != nil {
				s.close()
				return nil, err
			}
			if l.cores == 1 {
				c.limit = s.limit(one)
				return c, nil
			}
			var trips []float64
			hand := perFrame("bare hand-off", 2, limitHandOff(one))
			c.limit = &contestant{hand.name, func(d time.Duration) (sample, error) {
				trips = append(trips, handOffTime())
				return hand.rep(d)
			}}
			c.note = func() string { return fmt.Sprintf("cache line there and back %.0f ns", median(trips)) }
			return c, nil
		},
	}
}

// pipes plugs two pipes into a switch. Generator and sink are at their far ends; with two cores they
// have one of their own.
func (s *scene) pipes(l load, cores int) (c *contestant, err error) {
	apart := cores == 2
	as("ours", func() {
		if apart {
			s.later(pinProcess(1)) // the generator leaves for core 0
		}
		h, e := newHost(l)
		if err = e; err != nil {
			return
		}
		s.later(func() { h.Close() })
		cfg := &ports.PipeConfig{Depth: l.ring(), Offloads: ports.OffloadAll}
		var near, far [2]*ports.PipeEnd
		for i := range near {
			if near[i], far[i], err = ports.Pipe(cfg); err != nil {
				return
			}
		}
		if err = plug(h, l, func(i int) ports.Backend { return near[i] }); err != nil {
			return
		}
		// The guest is only the store of frames; they leave through the pipe.
		g := newGuest("generator", l, &l.talkers()[0], nil)
		p := &pipeRun{load: l, apart: apart, window: l.ring() / 4 * 3, src: far[0], dst: far[1], got: ports.NewBatch(64)}
		for i := range g.rx.frames {
			p.frames = append(p.frames, &g.rx.frames[i])
		}
		if err = p.introduce(1, far[1], far[0]); err == nil {
			err = p.introduce(0, far[0], far[1])
		}
		c = perFrame("hvswitch", cores, p.move)
	})
	return c, err
}

type pipeRun struct {
	load     load
	apart    bool
	window   int // frames on their way; fewer than fit, so that none is dropped
	src, dst *ports.PipeEnd
	frames   []*ports.Frame
	pos      int
	got      *ports.Batch
}

// introduce sends a frame from each address of a port.
func (p *pipeRun) introduce(port int, src, dst *ports.PipeEnd) error {
	l := p.load
	l.size = 64
	q := *p
	q.src, q.dst, q.frames, q.pos, q.load.batch = src, dst, nil, 0, 1
	for _, pair := range l.introductions(port) {
		f := &ports.Frame{}
		f.SetHead(l.frame(pair), 0, l.size)
		q.frames = append(q.frames, f)
	}
	_, _, err := q.move(len(q.frames))
	return err
}

// move implements mover.
func (p *pipeRun) move(n int) (int, time.Duration, error) {
	if p.apart {
		defer pinThread(0)()
	}
	n = p.load.share(n, 1)
	tx, rx := p.src.Tx(0), p.dst.Rx(0)
	start := time.Now()
	var pending []*ports.Frame
	sent, got := 0, 0
	for idle := 0; got < n; {
		if len(pending) == 0 && sent < n && sent-got+p.load.batch <= p.window {
			pending = p.frames[p.pos:][:p.load.batch]
			if p.pos += len(pending); p.pos == len(p.frames) {
				p.pos = 0
			}
		}
		k := 0
		if len(pending) > 0 {
			var err error
			if k, err = tx.Send(pending); err != nil {
				return 0, 0, err
			}
			pending = pending[k:]
			sent += k
		}
		if err := rx.Recv(p.got); err != nil {
			return 0, 0, err
		}
		r := p.got.Len()
		if r > 0 {
			p.got.Reset()
			rx.Release()
			got += r
		}
		if k+r > 0 {
			idle = 0
			continue
		}
		if idle++; !p.apart {
			runtime.Gosched()
		}
		if idle&0xffff == 0 && time.Since(start) > 20*time.Second {
			return 0, 0, fmt.Errorf("%w: %d of %d frames received", errStuck, got, sent)
		}
	}
	return n, time.Since(start), nil
}
