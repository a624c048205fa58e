package sflow

import (
	"time"

	"github.com/hvswitch/hvswitch/vswitch/extension"
)

// run sends until stop is closed.
func (a *Agent) run(stop chan struct{}) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		var counters []counterSample
		select {
		case <-stop:
			return
		case <-a.queue.wake:
		case <-tick.C:
			a.queue.renew(a.config.MaxRate)
			counters = a.count()
		}
		a.export(stop, counters)
	}
}

// export sends what waits, unless stop is closed; a nil stop never is.
func (a *Agent) export(stop chan struct{}, counters []counterSample) {
	a.sending.Lock()
	defer a.sending.Unlock()
	select {
	case <-stop:
		return
	default:
	}
	for i := range counters {
		a.datagram.counters(&counters[i])
	}
	a.counterSamples.Add(uint64(len(counters)))
	a.spare = a.queue.swap(a.spare)
	for i := range a.spare {
		a.datagram.flow(&a.spare[i])
	}
	a.flowSamples.Add(uint64(len(a.spare)))
	a.datagram.flush()
}

// send gives a datagram to all collectors.
func (a *Agent) send(b []byte) {
	for _, c := range a.config.Collectors {
		if _, err := c.Write(b); err != nil {
			a.sendErrors.Add(1)
		}
	}
	a.datagrams.Add(1)
}

// counterSample are the counters of a port at one time.
type counterSample struct {
	Counters
	source *source
	port   *extension.Port
}

// count returns the counter samples that are due. It holds no lock when it asks for them, because
// the switch may wait for Stop then.
func (a *Agent) count() (samples []counterSample) {
	if a.config.Counters == nil {
		return nil
	}
	now := time.Now()
	a.mu.Lock()
	for _, s := range a.sources {
		if now.Before(s.countersDue) {
			continue
		}
		for !now.Before(s.countersDue) {
			s.countersDue = s.countersDue.Add(a.config.CounterInterval)
		}
		samples = append(samples, counterSample{source: s, port: s.port.Load()})
	}
	a.mu.Unlock()
	n := 0
	for _, s := range samples {
		var ok bool
		if s.Counters, ok = a.config.Counters(s.port); ok {
			samples[n] = s
			n++
		}
	}
	return samples[:n]
}
