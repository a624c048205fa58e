package main

import (
	"os"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// cpus are those that the program was started on.
var cpus = func() (all []int) {
	var s unix.CPUSet
	if unix.SchedGetaffinity(0, &s) != nil {
		return []int{0}
	}
	for i := range 1024 {
		if s.IsSet(i) {
			all = append(all, i)
		}
	}
	return all
}()

func cpuSet(list []int) *unix.CPUSet {
	var s unix.CPUSet
	for _, c := range list {
		s.Set(c)
	}
	return &s
}

// pinThread keeps the calling goroutine on one thread and CPU, the i-th of cpus, until it is undone.
func pinThread(i int) (undo func()) {
	runtime.LockOSThread()
	unix.SchedSetaffinity(0, cpuSet(cpus[i%len(cpus):][:1]))
	return func() {
		unix.SchedSetaffinity(0, cpuSet(cpus))
		runtime.UnlockOSThread()
	}
}

// pinProcess moves every thread to one CPU, the i-th of cpus; threads to come inherit it.
func pinProcess(i int) (undo func()) {
	move := func(list []int) {
		for range 2 { // a thread may have been born meanwhile
			dir, _ := os.ReadDir("/proc/self/task")
			for _, d := range dir {
				if tid, err := strconv.Atoi(d.Name()); err == nil {
					unix.SchedSetaffinity(tid, cpuSet(list))
				}
			}
		}
	}
	move(cpus[i%len(cpus):][:1])
	return func() { move(cpus) }
}

// ownTime returns how long this process has used processors; 0 when that is not known.
func ownTime() time.Duration {
	var t unix.Timespec
	unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &t)
	return time.Duration(t.Nano())
}
