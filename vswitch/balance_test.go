package vswitch_test

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vswitch"
)

// balanceLab has guests vm0, vm1, … whose queues are all at the first of several workers.
func balanceLab(t *testing.T, workers, guests int) (*lab, []*station) {
	l := newLabWith(t, vswitch.HostConfig{Workers: workers})
	l.newSwitch("lab", vswitch.SwitchConfig{})
	vm := l.guests(guests)
	l.host.Gather()
	return l, vm
}

// served returns, by worker, the ports whose queues it serves, as far as they have a load.
func (l *lab) served(loads map[string]float64) (at [][]string) {
	for _, w := range l.host.Workers() {
		names := []string{}
		for _, q := range w.Queues {
			if loads[q.Port] > 0 {
				names = append(names, q.Port)
			}
		}
		at = append(at, names)
	}
	return at
}

// loadsOf returns the loads of the workers that serve these queues.
func (l *lab) loadsOf(loads map[string]float64) (at []float64) {
	for _, names := range l.served(loads) {
		sum := 0.0
		for _, n := range names {
			sum += loads[n]
		}
		at = append(at, sum)
	}
	return at
}

func (l *lab) movedQueues() (n uint64) {
	for _, w := range l.host.Workers() {
		n += w.Moved
	}
	return n
}

func TestLoadIsBalanced(t *testing.T) {
	mice := map[string]float64{}
	for i := range 40 {
		mice[fmt.Sprint("vm", i)] = 0.04
	}
	many := maps.Clone(mice)
	many["vm0"] = 0.9
	for name, c := range map[string]struct {
		workers int
		loads   map[string]float64
		inUse   int     // workers that serve them in the end
		most    float64 // load of one of them
	}{
		"idle":                   {2, nil, 0, 0},
		"two elephants":          {2, map[string]float64{"vm0": 0.9, "vm1": 0.9}, 2, 0.9},
		"one elephant":           {2, map[string]float64{"vm0": 1}, 1, 1},
		"elephant and mice":      {2, many, 2, 1.6},
		"mice":                   {4, mice, 4, 0.81},
		"four elephants":         {4, map[string]float64{"vm0": 0.7, "vm1": 0.7, "vm2": 0.7, "vm3": 0.7}, 4, 0.7},
		"more elephants":         {2, map[string]float64{"vm0": 0.9, "vm1": 0.9, "vm2": 0.9, "vm3": 0.9}, 2, 1.8},
		"much, but not too much": {2, map[string]float64{"vm0": 0.4, "vm1": 0.35}, 1, 0.75},
		"different":              {2, map[string]float64{"vm0": 0.6, "vm1": 0.3, "vm2": 0.3}, 2, 0.61},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				l, _ := balanceLab(t, c.workers, 40)
				for range 60 {
					l.host.BalanceAt(c.loads)
				}
				inUse := 0
				for i, load := range l.loadsOf(c.loads) {
					require.LessOrEqual(t, load, c.most+1e-9, "worker %d of %v", i, l.served(c.loads))
					if load > 0 {
						inUse++
					}
				}
				require.Equal(t, c.inUse, inUse, "%v", l.served(c.loads))

				before, moved := l.served(c.loads), l.movedQueues()
				for range 1000 {
					l.host.BalanceAt(c.loads)
				}
				require.Equal(t, before, l.served(c.loads), "a steady load")
				require.Equal(t, moved, l.movedQueues())
			})
		})
	}
}

func TestQueuesAreServedByFewerWorkersWhenTheLoadFalls(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, _ := balanceLab(t, 4, 8)
		busy, calm := map[string]float64{}, map[string]float64{}
		for i := range 4 {
			busy[fmt.Sprint("vm", i)], calm[fmt.Sprint("vm", i)] = 0.9, 0.05
		}
		for range 30 {
			l.host.BalanceAt(busy)
		}
		require.Equal(t, []float64{0.9, 0.9, 0.9, 0.9}, l.loadsOf(busy))
		l.host.BalanceAt(calm)
		l.host.BalanceAt(calm)
		require.Equal(t, []float64{0.9, 0.9, 0.9, 0.9}, l.loadsOf(busy), "a pause is no reason")
		l.host.BalanceAt(busy)
		for range 60 {
			l.host.BalanceAt(calm)
		}
		inUse := slices.DeleteFunc(l.served(calm), func(names []string) bool { return len(names) == 0 })
		require.Equal(t, [][]string{{"vm0", "vm1", "vm2", "vm3"}}, inUse)
		for range 60 {
			l.host.BalanceAt(busy)
		}
		require.Equal(t, []float64{0.9, 0.9, 0.9, 0.9}, l.loadsOf(busy))

		require.Len(t, l.host.Workers(), 4)
		all := 0
		for _, w := range l.host.Workers() {
			for _, q := range w.Queues {
				require.Equal(t, "lab", q.Switch)
				require.Zero(t, q.Queue)
				all++
			}
		}
		require.Equal(t, 8, all)
	})
}

// Two guests that never stop sending make one worker busy all the time, which is measured.
func TestElephantsOnOneWorkerAreMeasuredAndSpread(t *testing.T) {
	l, vm := balanceLab(t, 2, 2)
	for i := range 2 {
		e := &endlessStub{stub: newStub()}
		for range 32 {
			e.arrived = append(e.arrived, newFrame(frame(vm[i].mac, stranger(i+1), "noise")))
		}
		_, err := l.host.NewVNIC(fmt.Sprint("elephant", i), e, &vswitch.VNICConfig{Switch: "lab", MAC: stranger(i + 1)})
		require.NoError(t, err)
	}
	l.host.Gather()
	require.Eventually(t, func() bool {
		l.host.Balance()
		w := l.host.Workers()
		return slices.ContainsFunc(w, func(w vswitch.WorkerStats) bool { return w.Moved > 0 })
	}, patience, 10*time.Millisecond)
	for _, w := range l.host.Workers() {
		elephants := 0
		for _, q := range w.Queues {
			if q.Port == "elephant0" || q.Port == "elephant1" {
				elephants++
			}
		}
		require.Equal(t, 1, elephants, "%+v", l.host.Workers())
	}
}

func TestASleepingWorkerHasNoLoad(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l, vm := balanceLab(t, 3, 4)
		l.settle()
		vm[0].send(vm[1].mac, "hello")
		time.Sleep(time.Minute)
		for _, w := range l.host.Workers() {
			require.Less(t, w.Load, 1e-9)
			require.Zero(t, w.Moved)
		}
	})
}

// Queues go round the workers while frames flow, and ports come and go: nothing is lost, doubled or overtaken.
func TestMovingAQueueDisturbsNoFlow(t *testing.T) {
	l := newLabWith(t, vswitch.HostConfig{Workers: 3})
	l.newSwitch("lab", vswitch.SwitchConfig{})
	vm := l.guests(8)
	flows := []*flow{l.flow(vm[0], vm[1]), l.flow(vm[1], vm[2]), l.flow(vm[2], vm[0]), l.flow(vm[3], vm[4])}
	var moved, rounds atomic.Int64
	stop := make(chan struct{})
	var others sync.WaitGroup
	others.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				moved.Add(int64(l.host.MoveQueues()))
				rounds.Add(1)
			}
		}
	})
	others.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			vm[5].vnic.SetConfig(vswitch.VNICConfig{ID: vm[5].vnic.ID(), Switch: []string{"", "lab"}[i%2]})
			a, b, err := ports.Pipe(nil)
			if err != nil {
				panic(err)
			}
			name := fmt.Sprint("guest", i)
			v, err := l.host.NewVNIC(name, a, &vswitch.VNICConfig{Switch: "lab"})
			if err != nil {
				panic(err)
			}
			b.Tx(0).Send([]*ports.Frame{newFrame(frame(vm[6].mac, v.MAC(), "once"))})
			if i%2 == 0 {
				b.Close() // its queue dies
			}
			v.Close()
		}
	})
	for moved.Load() < 5000 {
		for _, f := range flows {
			f.goOn(20)
		}
	}
	for _, f := range flows {
		f.goOn(100)
	}
	close(stop)
	others.Wait()
	frames := 0
	for _, f := range flows {
		frames += f.stop()
	}
	t.Logf("%d moves in %d rounds while %d frames were under way", moved.Load(), rounds.Load(), frames)
	for _, s := range vm[:5] {
		require.Zero(t, s.vnic.Stats().Dropped())
	}
}
