package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"
)

const tolerance = 2.0 // percent of what the uplink carries

// second is what was carried in a second.
type second struct {
	share []float64 // percent, by class
	total float64   // bit/s
	wires []float64 // bit/s
}

// tell lets a chapter happen and prints it second by second. It returns what is not as it should be.
func (l *lab) tell(ctx context.Context, w io.Writer, c chapter) error {
	for i, nic := range l.cables {
		nic.SetLink(!slices.Contains(c.pulled, i))
	}
	for _, s := range l.senders {
		s.active.Store(slices.Contains(c.senders, s.class))
	}
	want := shares(l.planned, c.senders)
	fmt.Fprintf(w, "%s\n", c.title)
	l.line(w, "by weight", want, "")
	if err := l.settle(ctx, c.senders); err != nil {
		return fmt.Errorf("%s: %w", c.title, err)
	}
	var errs []error
	for n := range c.seconds {
		s, err := l.measure(ctx)
		if err != nil {
			return errors.Join(append(errs, err)...)
		}
		var wires []string
		for i, rate := range s.wires {
			wires = append(wires, fmt.Sprintf("%s %.1f", l.wires[i].name, rate/1e6))
		}
		l.line(w, fmt.Sprint("second ", n+1), s.share, fmt.Sprintf("%.1f Mbit/s: %s", s.total/1e6, strings.Join(wires, ", ")))
		for _, err := range l.differences(s, want, nicCount-len(c.pulled)) {
			errs = append(errs, fmt.Errorf("%s, second %d: %w", c.title, n+1, err))
		}
	}
	fmt.Fprintln(w)
	return errors.Join(errs...)
}

// line prints the shares of all classes.
func (l *lab) line(w io.Writer, what string, percent []float64, rest string) {
	s := fmt.Sprintf("  %-10s", what)
	for i, c := range l.planned {
		s += fmt.Sprintf("  %s %5.1f %%", c.name, percent[i])
	}
	fmt.Fprintln(w, strings.TrimRight(s+"   "+rest, " "))
}

// measure waits a second and tells what was carried in it.
func (l *lab) measure(ctx context.Context) (s second, err error) {
	start := time.Now()
	var before []map[uint16]uint64
	for _, w := range l.wires {
		before = append(before, w.carried())
	}
	if err := sleep(ctx, time.Second); err != nil {
		return s, err
	}
	took := time.Since(start).Seconds()
	s.share, s.wires = make([]float64, len(l.planned)), make([]float64, len(l.wires))
	for i, w := range l.wires {
		now := w.carried()
		for k, c := range l.planned {
			for _, v := range c.vnics {
				rate := float64(now[v.vid]-before[i][v.vid]) * 8 / took
				s.share[k] += rate
				s.wires[i] += rate
			}
		}
		s.total += s.wires[i]
	}
	for k := range s.share {
		s.share[k] *= 100 / max(s.total, 1)
	}
	return s, nil
}

// differences compares a second with what is wanted of so many NICs.
func (l *lab) differences(s second, want []float64, nics int) (errs []error) {
	for k, c := range l.planned {
		if math.Abs(s.share[k]-want[k]) > tolerance {
			errs = append(errs, fmt.Errorf("%s has %.1f %% of the uplink instead of %.1f %%", c.name, s.share[k], want[k]))
		}
	}
	// How much less it may be depends on how busy the computer is. A wire makes up for some of that later.
	if most := float64(nics*nicRate) * (1 + 2*late.Seconds()); s.total == 0 || s.total > most {
		errs = append(errs, fmt.Errorf("%d NICs carry %.1f Mbit/s", nics, s.total/1e6))
	}
	if speed := l.host.NIC(uplinkName).Link().Speed; speed != uint64(nics*nicRate) {
		errs = append(errs, fmt.Errorf("the uplink has %d Mbit/s with %d NICs", speed/1e6, nics))
	}
	return errs
}

// settle waits until a NIC whose cable is back is used again and the rest of those who send no more is gone.
func (l *lab) settle(ctx context.Context, senders []string) error {
	for end := time.Now().Add(patience); ; {
		if err := sleep(ctx, settling); err != nil {
			return err
		}
		left := ""
		for _, c := range l.planned {
			if n := l.queued(&c); n > 0 && !slices.Contains(senders, c.name) {
				left = fmt.Sprintf("%d frames of %s have not been sent", n, c.name)
			}
		}
		if left == "" {
			return sleep(ctx, settling) // and until they have left the wires
		}
		if time.Now().After(end) {
			return errors.New(left)
		}
	}
}

// queued returns how many frames of a class wait for the uplink.
func (l *lab) queued(c *class) (n int) {
	for _, s := range l.host.Switch(switchName).Classes() {
		if c.name == theVMs && s.Name == "default" || s.Name == c.vnics[0].name {
			n += s.Queued
		}
	}
	return n
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
