package vswitch

import (
	"container/heap"
	"time"
)

// alarm is something that a worker does at a certain time.
type alarm struct {
	at   time.Duration // of the host's clock
	ring func(*worker)
}

// alarms are those of a worker, in a heap with the next one in front.
type alarms []*alarm

func (a alarms) Len() int           { return len(a) }
func (a alarms) Less(i, k int) bool { return a[i].at < a[k].at }
func (a alarms) Swap(i, k int)      { a[i], a[k] = a[k], a[i] }
func (a *alarms) Push(x any)        { *a = append(*a, x.(*alarm)) }

func (a *alarms) Pop() any {
	last := len(*a) - 1
	x := (*a)[last]
	(*a)[last] = nil
	*a = (*a)[:last]
	return x
}

// set makes the worker ring an alarm that it has not set yet, after a while.
func (w *worker) set(a *alarm, after time.Duration) {
	a.at = w.clock + after
	heap.Push(&w.alarms, a)
}

// ringAlarms rings those whose time has come.
func (w *worker) ringAlarms() {
	for len(w.alarms) > 0 && w.alarms[0].at <= w.clock {
		heap.Pop(&w.alarms).(*alarm).ring(w)
	}
}

// nextAlarm returns the time until which a worker may sleep, or 0 if for ever.
func (w *worker) nextAlarm() time.Duration {
	if len(w.alarms) == 0 {
		return 0
	}
	return max(w.alarms[0].at, 1)
}
