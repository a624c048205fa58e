package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/qos"
	"github.com/hvswitch/hvswitch/vswitch"
)

// QoS rows: what it takes to queue a frame and to decide that it is the next.

func qosBenches() (all []*bench) {
	const fast = qos.HighestRate // nobody has to wait
	divided := func(name string, q *vswitch.QoSConfig, b vswitch.Bandwidth) *bench {
		return policyBench("qos/switch/"+name, func(s *scene, c *contest) (err error) {
			p := policySetup{tuples: guestTuples(), answered: true, uplink: q != nil}
			if c.limit, err = s.policy("bare forwarding", p); err != nil {
				return err
			}
			p.qos, p.bandwidth = q, b
			c.ours, err = s.policy("hvswitch", p)
			return err
		})
	}
	all = append(all,
		divided("maximum", nil, vswitch.Bandwidth{MaxRate: fast}),
		divided("minimum", &vswitch.QoSConfig{LinkRate: fast}, vswitch.Bandwidth{MinWeight: 50}),
		divided("both", &vswitch.QoSConfig{LinkRate: fast}, vswitch.Bandwidth{MinWeight: 50, MaxRate: fast}))
	for _, classes := range []int{1, 4, 16, 64} {
		for _, queued := range []int{0, 64} {
			name := fmt.Sprintf("qos/classes=%d", classes) + choose(queued > 0, "/saturated", "")
			all = append(all, policyBench(name, func(_ *scene, c *contest) error { return qosScene(c, classes, queued) }))
		}
	}
	return all
}

// connectUplink makes the switch of a host an external one.
func (s *scene) connectUplink(h *vswitch.Host, b ports.Backend, q *vswitch.QoSConfig) error {
	if _, err := h.AddNIC(portName(1), b); err != nil {
		return err
	}
	cfg := h.Switch(switchName).Config()
	cfg.Type, cfg.Uplink, cfg.QoS = vswitch.External, portName(1), q
	return h.Switch(switchName).SetConfig(cfg)
}

// qosScene queues batches of frames, each of the next class, and takes as many out. With queued, so many
// of each class are in the queues all the time.
func qosScene(c *contest, classes, queued int) error {
	const size = 1538 // a full frame on the wire; that of the copy is 64 bytes
	const perBatch = burst * size * 8 * time.Second / 100e9
	sched, err := qos.New[*ports.Frame](&qos.Config{LinkRate: 100e9}, nil)
	if err != nil {
		return err
	}
	item := func(i int) *ports.Frame {
		f := flowFrames()[0]
		f.VLAN = ports.Tag{TPID: ports.TPID8021Q, TCI: uint16(i)} // by which its class is known
		return f
	}
	all, items := make([]*qos.Class[*ports.Frame], classes), make([]*ports.Frame, classes)
	for i := range all {
		items[i] = item(i)
		if all[i], err = sched.Add(qos.ClassConfig{Name: portName(i), MinWeight: 1 + i%100}); err != nil {
			return err
		}
		for j := range queued {
			sched.Enqueue(all[i], uint32(j%4), size, items[i], 0)
		}
	}
	var now time.Duration
	var dst [burst]*ports.Frame
	next := 0
	c.ours = perFrame("hvswitch", 1, func(n int) (int, time.Duration, error) {
		rounds := max(1, n/burst)
		start := time.Now()
		for range rounds {
			if queued == 0 {
				for range dst {
					if !sched.Enqueue(all[next], uint32(next), size, items[next], now) {
						return 0, 0, errors.New("a queue is full")
					}
					if next++; next == classes {
						next = 0
					}
				}
			}
			got := 0
			for tries := 0; got < len(dst); tries++ {
				if tries > 1000 {
					return 0, 0, errors.New("the scheduler holds frames back")
				}
				got += sched.Dequeue(dst[got:], now)
				now += perBatch
			}
			if queued > 0 {
				for i, f := range dst {
					if !sched.Enqueue(all[f.VLAN.TCI], uint32(i%4), size, f, now) {
						return 0, 0, errors.New("a queue is full")
					}
				}
			}
		}
		return rounds * len(dst), time.Since(start), nil
	})
	c.limit = perFrame("bare copy", 1, bareCopy(policyLoad))
	return nil
}
