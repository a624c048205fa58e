package main

import (
	"os"
	"strconv"
	"strings"
	"time"
)

// quiet keeps other users of the machine out of the figures, as far as its budget of time goes: it
// waits for an idle machine, and has a repetition taken again during which others were busy.
type quiet struct {
	budget time.Duration // left for waiting and repeating
}

func newQuiet(o options) *quiet {
	if o.short {
		return &quiet{budget: 5 * time.Second}
	}
	return &quiet{budget: 60 * time.Second}
}

const (
	quietShare  = 0.10                   // of all CPUs may be busy
	quietWait   = time.Second            // before one row at most
	quietWindow = 100 * time.Millisecond // the kernel counts in ticks of 10 ms on most machines
	tick        = 0.010                  // seconds
)

// wait returns when the machine is idle, or after a while.
func (q *quiet) wait() {
	for end := time.Now().Add(quietWait); q.budget > 0 && time.Now().Before(end); {
		b0, n, ok := cpuTime()
		if !ok {
			return
		}
		time.Sleep(quietWindow)
		b1, _, _ := cpuTime()
		if (b1-b0)/float64(n)/quietWindow.Seconds() <= quietShare {
			return
		}
		q.budget -= quietWindow
	}
}

// stealWatch finds out whether other processes use the CPUs.
type stealWatch struct {
	busy  float64
	own   time.Duration
	start time.Time
}

func newStealWatch() stealWatch {
	b, _, _ := cpuTime()
	return stealWatch{b, ownTime(), time.Now()}
}

func (w stealWatch) disturbed() bool {
	b, n, ok := cpuTime()
	others := b - w.busy - (ownTime() - w.own).Seconds() - 2*tick // ticks are coarse
	return ok && others > quietShare*float64(n)*time.Since(w.start).Seconds()
}

// again says whether there is time to repeat what took d.
func (q *quiet) again(d time.Duration) bool {
	if q.budget < d {
		return false
	}
	q.budget -= d
	return true
}

// cpuTime returns the seconds for which all CPUs together were busy, and their number. It knows
// only Linux.
func cpuTime() (busy float64, cpus int, ok bool) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0, false
	}
	for l := range strings.Lines(string(b)) {
		f := strings.Fields(l)
		if len(f) < 9 || !strings.HasPrefix(f[0], "cpu") {
			continue
		}
		if f[0] != "cpu" {
			cpus++
			continue
		}
		for i, s := range f[1:9] {
			if v, err := strconv.ParseFloat(s, 64); err == nil && i != 3 && i != 4 { // idle, iowait
				busy += v / 100 // USER_HZ
			}
		}
	}
	return busy, cpus, cpus > 0
}
