package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/team"
)

// Team rows: what a team adds to the cost of a frame that crosses a cable.

func teamBenches() (all []*bench) {
	for _, t := range []struct {
		mode         team.Mode
		distribution team.Distribution
	}{
		{team.SwitchIndependent, team.HyperVPort},
		{team.SwitchIndependent, team.AddressHash},
		{team.SwitchIndependent, team.Dynamic},
		{team.Static, team.HyperVPort},
		{team.Static, team.AddressHash},
		{team.Static, team.Dynamic},
	} {
		for _, receive := range []bool{false, true} {
			name := fmt.Sprintf("team/%s/%s/%s", word(t.mode), word(t.distribution), choose(receive, "receive", "send"))
			b := policyBench(name, func(s *scene, c *contest) error {
				return s.team(c, &team.Config{Mode: t.mode, Distribution: t.distribution}, receive)
			})
			b.over = true
			all = append(all, b)
		}
	}
	return all
}

// word is the name of a setting as one word of the name of a row.
func word(s fmt.Stringer) string { return strings.ReplaceAll(strings.ToLower(s.String()), " ", "-") }

// team has frames cross pipes whose near ends are a team, and as many pipes alone, each with its part of the frames.
func (s *scene) team(c *contest, cfg *team.Config, receive bool) error {
	const members = 2
	var list []team.Member
	var far []*ports.PipeEnd
	for i := range members {
		near, end, err := ports.Pipe(nil)
		if err != nil {
			return err
		}
		far = append(far, end)
		list = append(list, team.Member{Name: fmt.Sprint("nic", i), Backend: near, MAC: addr(2000 + i)})
	}
	var bareNear, bareFar []*ports.PipeEnd
	for range members {
		near, end, err := ports.Pipe(nil)
		if err != nil {
			return err
		}
		s.later(func() { near.Close() })
		bareNear, bareFar = append(bareNear, near), append(bareFar, end)
	}
	t, err := team.New(list, cfg)
	if err != nil {
		return err
	}
	s.later(func() { t.Close() })
	if receive {
		ways, err := waysInto(t, far)
		if err != nil {
			return err
		}
		c.ours = perFrame("hvswitch", 1, crossing(ways, allRx(t)))
		c.limit = perFrame("the pipes alone", 1, crossing(split(bareFar), farRx(bareNear)))
		return nil
	}
	c.ours = perFrame("hvswitch", 1, crossing([]way{{t.Tx(0), flowFrames()}}, farRx(far)))
	c.limit = perFrame("the pipes alone", 1, crossing(split(bareNear), farRx(bareFar)))
	return nil
}

// way is where frames are sent.
type way struct {
	tx     ports.TxQueue
	frames []*ports.Frame
}

// split sends a part of the frames by each end.
func split(ends []*ports.PipeEnd) (ways []way) {
	all := flowFrames()
	for i, e := range ends {
		ways = append(ways, way{e.Tx(0), all[i*len(all)/len(ends) : (i+1)*len(all)/len(ends)]})
	}
	return ways
}

// waysInto finds out from which member the team takes each frame.
func waysInto(t *team.Team, far []*ports.PipeEnd) ([]way, error) {
	ways := make([]way, len(far))
	for i := range far {
		ways[i].tx = far[i].Tx(0)
	}
	queues, b := allRx(t), ports.NewBatch(2*burst)
	for _, f := range flowFrames() {
		found := false
		for i := range ways {
			if _, err := ways[i].tx.Send([]*ports.Frame{f}); err != nil {
				return nil, err
			}
			if n, err := receiveAll(queues, b); err != nil {
				return nil, err
			} else if n == 1 {
				ways[i].frames = append(ways[i].frames, f)
				found = true
				break
			}
		}
		if !found {
			return nil, errors.New("the team takes a frame from no member")
		}
	}
	return ways, nil
}

func allRx(b ports.Backend) (list []ports.RxQueue) {
	for i := range b.Info().RxQueues {
		list = append(list, b.Rx(i))
	}
	return list
}

func farRx(ends []*ports.PipeEnd) (list []ports.RxQueue) {
	for _, e := range ends {
		list = append(list, allRx(e)...)
	}
	return list
}

func receiveAll(queues []ports.RxQueue, b *ports.Batch) (n int, err error) {
	for _, q := range queues {
		if err := q.Recv(b); err != nil {
			return n, err
		}
		n += b.Len()
		b.Reset()
		q.Release()
	}
	return n, nil
}

// crossing sends a batch on its ways and receives it.
func crossing(ways []way, queues []ports.RxQueue) mover {
	b := ports.NewBatch(2 * burst)
	return func(n int) (int, time.Duration, error) {
		rounds := max(1, n/burst)
		start := time.Now()
		for range rounds {
			for i := range ways {
				if k, err := ways[i].tx.Send(ways[i].frames); err != nil || k != len(ways[i].frames) {
					return 0, 0, fmt.Errorf("%d of %d frames were sent: %w", k, len(ways[i].frames), err)
				}
			}
			if k, err := receiveAll(queues, b); err != nil || k != burst {
				return 0, 0, fmt.Errorf("%d of %d frames were received: %w", k, burst, err)
			}
		}
		return rounds * burst, time.Since(start), nil
	}
}
