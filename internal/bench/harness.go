package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"regexp"
	"runtime"
	"runtime/pprof"
	"slices"
	"strings"
	"time"
)

type options struct {
	json, short bool
	rep         time.Duration // of every row, if not 0
}

// bench is one scene: contestants who take turns. One repetition may give several figures, each a
// row of its own.
type bench struct {
	rows []row
	lab  bool // needs root and network namespaces
	over bool // by how much ours is over the limit is of interest
	huge bool // uses huge pages, of which the machine may have to set some aside
	open func(o options) (*contest, error)

	// Time of one repetition; a short run takes less.
	rep, shortRep time.Duration
}

type row struct {
	name   string
	unit   string
	value  int  // index into sample.values
	bigger bool // a rate; otherwise a time
}

// contest is an open scene. Only ours must be there.
type contest struct {
	ours, peer, limit *contestant
	copy              *contestant   // the bare copy of the same bytes
	also              *contestant   // one more peer, told in the note
	note              func() string // asked once, behind the last repetition
	close             func()
}

type contestant struct {
	name string
	rep  func(d time.Duration) (sample, error) // one repetition of about d
}

type sample struct {
	values []float64 // NaN: has no such figure
	allocs float64   // a frame; negative when not counted
	noisy  bool      // others used the machine meanwhile
	place  string    // how the CPUs lay to each other, where that matters
}

// skip is the error of a scene that cannot be set up on this machine.
type skip string

func (s skip) Error() string { return string(s) }

const (
	repetitions = 5
	maxTries    = 10 // at a repetition that others disturb
)

// result is one line of the output; its fields are those of the JSON object.
type result struct {
	Name       string   `json:"name"`
	Value      *float64 `json:"value,omitempty"`
	Unit       string   `json:"unit,omitempty"`
	Allocs     *float64 `json:"allocs,omitempty"`
	Peer       string   `json:"peer,omitempty"`
	PeerValue  *float64 `json:"peer_value,omitempty"`
	Ratio      *float64 `json:"ratio,omitempty"`
	Limit      string   `json:"limit,omitempty"`
	LimitValue *float64 `json:"limit_value,omitempty"`
	LimitRatio *float64 `json:"limit_ratio,omitempty"`
	CopyValue  *float64 `json:"copy_value,omitempty"`
	Over       *float64 `json:"over,omitempty"` // value less limit_value
	Note       string   `json:"note,omitempty"`
	Skipped    string   `json:"skipped,omitempty"`
	Failed     string   `json:"failed,omitempty"`
}

// selectRows keeps the rows whose name matches, and the benches that have any.
func selectRows(all []*bench, re *regexp.Regexp) []*bench {
	var out []*bench
	for _, b := range all {
		c := *b
		c.rows = nil
		for _, r := range b.rows {
			if re.MatchString(r.name) {
				c.rows = append(c.rows, r)
			}
		}
		if len(c.rows) > 0 {
			out = append(out, &c)
		}
	}
	return out
}

// runAll reports whether no row failed; one that is skipped has not failed.
func runAll(benches []*bench, o options, p *printer) (ok bool) {
	ok = true
	q := newQuiet(o)
	for _, b := range benches {
		for _, r := range b.run(o, q) {
			p.print(r)
			ok = ok && r.Failed == ""
		}
	}
	return ok
}

// run opens the scene, lets the contestants take turns and returns a result for each row.
func (b *bench) run(o options, q *quiet) []result {
	c, err := b.open(o)
	if err != nil {
		return b.without(err)
	}
	if c.close != nil {
		defer c.close()
	}
	d := b.rep
	if o.short {
		d = b.shortRep
	}
	if o.rep > 0 {
		d = o.rep
	}
	turn := []*contestant{c.ours, c.peer, c.limit, c.copy, c.also}
	who := []string{"ours", "peer", "limit", "copy", "peer"}
	var samples [5][]sample
	noisy := 0
	q.wait()
	for {
		start := time.Now()
		for i, t := range turn {
			if t == nil {
				continue
			}
			for tries := 1; ; tries++ {
				begin := time.Now()
				runtime.GC() // so that nobody pays for another's garbage
				var s sample
				as(who[i], func() { s, err = t.rep(d) })
				if err != nil {
					return b.without(fmt.Errorf("%s: %w", t.name, err))
				}
				if s.noisy && tries < maxTries && q.again(time.Since(begin)) {
					continue
				}
				if s.noisy {
					noisy++
				}
				samples[i] = append(samples[i], s)
				break
			}
		}
		if n := len(samples[0]); n < repetitions {
			continue
		} else if _, k := commonPlace(samples); k >= repetitions || n == 2*repetitions || !q.again(time.Since(start)) {
			break
		}
	}
	var notes []string
	samples, where := inCommonPlace(samples)
	if where != "" {
		notes = append(notes, where)
	}
	if c.note != nil {
		notes = append(notes, c.note())
	}
	if noisy > 0 {
		notes = append(notes, fmt.Sprintf("%d noisy repetitions", noisy))
	}
	var out []result
	for _, r := range b.rows {
		x := r.result(turn, samples)
		if m := r.median(samples[4]); m != nil {
			x.Note = c.also.name + " " + figure(m)
		}
		if b.over && x.LimitValue != nil {
			o := *x.Value - *x.LimitValue
			x.Over = &o
		}
		for _, n := range notes {
			x.Note = strings.TrimPrefix(x.Note+", "+n, ", ")
		}
		out = append(out, x)
	}
	return out
}

// commonPlace returns the place in which every contestant has been at least so often, as often as in
// no other.
func commonPlace(samples [5][]sample) (place string, least int) {
	for _, p := range samples[0] {
		n := len(samples[0])
		for _, s := range samples {
			if len(s) > 0 {
				n = min(n, count(s, p.place))
			}
		}
		if n > least {
			place, least = p.place, n
		}
	}
	return place, least
}

func count(samples []sample, place string) (n int) {
	for _, s := range samples {
		if s.place == place {
			n++
		}
	}
	return n
}

// inCommonPlace keeps the samples of the common place, so that like is compared with like, and says
// what it did.
func inCommonPlace(samples [5][]sample) (kept [5][]sample, note string) {
	place, least := commonPlace(samples)
	if least == 0 {
		return samples, "the places of the CPUs differ"
	}
	n, all := 0, 0
	for i := range samples {
		for _, s := range samples[i] {
			if all++; s.place == place {
				n++
				kept[i] = append(kept[i], s)
			}
		}
	}
	if place == "" {
		return kept, ""
	}
	return kept, fmt.Sprintf("%s in %d of %d repetitions", place, n, all)
}

func (b *bench) without(err error) []result {
	var out []result
	for _, r := range b.rows {
		x := result{Name: r.name}
		if s := skip(""); errors.As(err, &s) {
			x.Skipped = err.Error()
		} else {
			x.Failed = err.Error()
		}
		out = append(out, x)
	}
	return out
}

// median returns that of the row's figure, or nil when the contestant has none.
func (r row) median(samples []sample) *float64 {
	var v []float64
	for _, s := range samples {
		if x := s.values[r.value]; !math.IsNaN(x) {
			v = append(v, x)
		}
	}
	if len(v) == 0 {
		return nil
	}
	m := median(v)
	return &m
}

func (r row) result(turn []*contestant, samples [5][]sample) result {
	x := result{Name: r.name, Unit: r.unit}
	relative := func(to *float64) *float64 {
		if to == nil || *to == 0 || *x.Value == 0 {
			return nil
		}
		q := *to / *x.Value
		if r.bigger {
			q = 1 / q
		}
		return &q
	}
	x.Value = r.median(samples[0])
	var allocs []float64
	for _, s := range samples[0] {
		allocs = append(allocs, s.allocs)
	}
	if a := median(allocs); a >= 0 {
		x.Allocs = &a
	}
	if x.PeerValue = r.median(samples[1]); x.PeerValue != nil {
		x.Peer, x.Ratio = turn[1].name, relative(x.PeerValue)
	}
	if x.LimitValue = r.median(samples[2]); x.LimitValue != nil {
		x.Limit, x.LimitRatio = turn[2].name, relative(x.LimitValue)
	}
	x.CopyValue = r.median(samples[3])
	return x
}

// median returns the middle of v, for an even number the mean of the two in the middle.
func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	n := len(s)
	if n%2 == 1 {
		return s[n/2]
	}
	return (s[n/2-1] + s[n/2]) / 2
}

// mover moves n frames, or some more, and says how many and how long it took.
type mover func(n int) (frames int, d time.Duration, err error)

// as runs f with a label that the goroutines it starts inherit, so that a profile tells contestants
// apart.
func as(who string, f func()) {
	pprof.Do(context.Background(), pprof.Labels("who", who), func(context.Context) { f() })
}

// perFrame makes a contestant of a mover: ns and allocations a frame. On one core the time is that
// of the processor, so that others on it disturb little; on several it is that of the clock.
func perFrame(name string, cores int, move mover) *contestant {
	timed := func(n int) (frames int, took time.Duration, noisy bool, err error) {
		own, all := ownTime(), newStealWatch()
		frames, took, err = move(n)
		if used := ownTime() - own; cores > 1 || used == 0 {
			noisy = all.disturbed()
		} else {
			noisy = took > used+used/8
			took = used
		}
		return frames, took, noisy, err
	}
	n := 0
	return &contestant{name, func(d time.Duration) (sample, error) {
		for k := 1024; n == 0; k *= 4 { // find how many frames last d
			got, took, _, err := timed(k)
			if err != nil {
				return sample{}, err
			}
			if took > d/8 {
				n = scaled(got, took, d)
			}
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		got, took, noisy, err := timed(n)
		if err != nil {
			return sample{}, err
		}
		runtime.ReadMemStats(&after)
		if took < d/2 {
			n = scaled(got, took, d) // something disturbed the search
			noisy = true
		}
		return sample{
			values: []float64{float64(took.Nanoseconds()) / float64(got)},
			allocs: float64(after.Mallocs-before.Mallocs) / float64(got),
			noisy:  noisy,
		}, nil
	}}
}

// scaled returns how many frames last d when n of them took that long.
func scaled(n int, took, d time.Duration) int {
	return max(1, int(float64(n)*float64(d)/float64(max(took, 1))))
}

// growth makes a contestant of two: how many times more the second one takes.
func growth(small, big *contestant) *contestant {
	return &contestant{small.name, func(d time.Duration) (sample, error) {
		s, err := small.rep(d)
		if err != nil {
			return s, err
		}
		b, err := big.rep(d)
		if err != nil {
			return b, err
		}
		return sample{values: []float64{b.values[0] / s.values[0]}, allocs: -1, noisy: s.noisy || b.noisy}, nil
	}}
}
