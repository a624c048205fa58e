package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"math"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		in   []float64
		want float64
	}{
		{[]float64{3}, 3},
		{[]float64{9, 1, 5}, 5},
		{[]float64{4, 1, 3, 2}, 2.5},
		{[]float64{1, 1, 1, 1, 1000}, 1},
	} {
		in := slices.Clone(c.in)
		if got := median(in); got != c.want {
			t.Errorf("median(%v) = %v, want %v", c.in, got, c.want)
		}
		if !slices.Equal(in, c.in) {
			t.Errorf("median changed its argument %v to %v", c.in, in)
		}
	}
}

func TestRowNames(t *testing.T) {
	seen := map[string]bool{}
	for _, b := range allBenches() {
		for _, r := range b.rows {
			if seen[r.name] {
				t.Errorf("two rows are called %s", r.name)
			}
			seen[r.name] = true
			if group, _, ok := strings.Cut(r.name, "/"); !ok || !slices.Contains([]string{"memory", "policy", "extension", "team", "qos", "toeplitz", "overlay", "sock", "tap", "afpacket", "vhostuser"}, group) {
				t.Errorf("%s does not begin with a group", r.name)
			}
			if r.unit == "" {
				t.Errorf("%s has no unit", r.name)
			}
			if b.rep < b.shortRep || b.shortRep == 0 {
				t.Errorf("%s: repetitions of %v, short of %v", r.name, b.rep, b.shortRep)
			}
		}
	}
	for _, want := range []string{"memory/64B/batch=32/ports=2/addresses=1k/cores=1", "memory/65535B/batch=1/ports=2/addresses=1k/cores=1",
		"policy/guards", "policy/guards+acl/established", "policy/acl/rules=10000/stateful/new"} {
		if !seen[want] {
			t.Errorf("there is no row %s", want)
		}
	}
}

// fake is a bench whose contestants need 10, 40 and 5 ns, and 2 a second at 20, 4 and 40.
func fake(ran *[]string) *bench {
	contestant := func(name string, ns, rate float64) *contestant {
		return &contestant{name, func(time.Duration) (sample, error) {
			*ran = append(*ran, name)
			return sample{values: []float64{ns, rate}, allocs: 0.5}, nil
		}}
	}
	return &bench{
		rows: []row{{"fake/time", "ns", 0, false}, {"fake/rate", "1/s", 1, true}},
		open: func(options) (*contest, error) {
			*ran = append(*ran, "open")
			return &contest{
				ours:  contestant("ours", 10, 20),
				peer:  contestant("them", 40, 4),
				limit: contestant("bare", 5, 40),
				copy:  contestant("copy", 3, math.NaN()),
				note:  func() string { return "a note" },
				close: func() { *ran = append(*ran, "close") },
			}, nil
		},
	}
}

func TestContestantsTakeTurns(t *testing.T) {
	var ran []string
	fake(&ran).run(options{short: true}, &quiet{})
	want := []string{"open"}
	for range 5 {
		want = append(want, "ours", "them", "bare", "copy")
	}
	if want = append(want, "close"); !slices.Equal(ran, want) {
		t.Errorf("ran %v, want %v", ran, want)
	}
}

func TestOnlyTheCommonPlaceCounts(t *testing.T) {
	places := []string{"far", "near", "near", "far", "near", "near", "moving", "near", "near", "near"}
	turn := 0
	contestant := func(name string, near float64) *contestant {
		return &contestant{name, func(time.Duration) (sample, error) {
			place := places[turn/2]
			turn++
			if place != "near" {
				return sample{values: []float64{1}, place: place}, nil
			}
			return sample{values: []float64{near}, place: place}, nil
		}}
	}
	b := &bench{
		rows: []row{{"fake/rate", "1/s", 0, true}},
		open: func(options) (*contest, error) {
			return &contest{ours: contestant("ours", 30), limit: contestant("bare", 40)}, nil
		},
	}
	r := b.run(options{}, &quiet{budget: time.Minute})[0]
	if *r.Value != 30 || *r.LimitValue != 40 {
		t.Errorf("got %v of %v, want those of the CPUs that are near", *r.Value, *r.LimitValue)
	}
	if want := "near in 10 of 16 repetitions"; r.Note != want || turn != 16 {
		t.Errorf("%d repetitions, noted as %q; want %q", turn, r.Note, want)
	}
}

func TestOnlySelectedRowsRun(t *testing.T) {
	var ran, other []string
	all := []*bench{fake(&ran), fake(&other)}
	for i := range all[1].rows {
		all[1].rows[i].name = strings.Replace(all[1].rows[i].name, "fake", "other", 1)
	}
	picked := selectRows(all, regexp.MustCompile("^fake/rate"))
	var out bytes.Buffer
	runAll(picked, options{json: true, short: true}, newPrinter(&out, options{json: true}))
	if n := strings.Count(out.String(), "\n"); n != 1 || !strings.Contains(out.String(), `"fake/rate"`) {
		t.Errorf("output is %s", out.String())
	}
	if len(other) > 0 {
		t.Errorf("the other bench ran: %v", other)
	}
	if len(all[0].rows) != 2 {
		t.Error("selectRows changed its argument")
	}
}

func TestJSON(t *testing.T) {
	var ran []string
	var out bytes.Buffer
	runAll([]*bench{fake(&ran)}, options{json: true, short: true}, newPrinter(&out, options{json: true}))
	want := []map[string]any{{
		"name": "fake/time", "value": 10.0, "unit": "ns", "allocs": 0.5, "peer": "them", "peer_value": 40.0, "ratio": 4.0,
		"limit": "bare", "limit_value": 5.0, "limit_ratio": 0.5, "copy_value": 3.0, "note": "a note",
	}, {
		"name": "fake/rate", "value": 20.0, "unit": "1/s", "allocs": 0.5, "peer": "them", "peer_value": 4.0, "ratio": 5.0,
		"limit": "bare", "limit_value": 40.0, "limit_ratio": 0.5, "note": "a note",
	}}
	d := json.NewDecoder(&out)
	for _, w := range want {
		var got map[string]any
		if err := d.Decode(&got); err != nil {
			t.Fatal(err)
		}
		if !maps.Equal(got, w) {
			t.Errorf("got %v\nwant %v", got, w)
		}
	}
	if d.More() {
		t.Error("there are more lines than rows")
	}
}

func TestSkippedAndFailedRows(t *testing.T) {
	b := &bench{rows: []row{{name: "fake/row", unit: "ns"}}}
	for _, c := range []struct {
		err  error
		want string
	}{
		{skip("needs root"), `{"name":"fake/row","skipped":"needs root"}`},
		{errors.New("it broke"), `{"name":"fake/row","failed":"it broke"}`},
	} {
		b.open = func(options) (*contest, error) { return nil, c.err }
		var out bytes.Buffer
		ok := runAll([]*bench{b}, options{}, newPrinter(&out, options{json: true}))
		if skipped := errors.As(c.err, new(skip)); ok != skipped {
			t.Errorf("after %v the run is a success: %v", c.err, ok)
		}
		if got := strings.TrimSpace(out.String()); got != c.want {
			t.Errorf("got %s, want %s", got, c.want)
		}
	}
}

func TestRowsWithoutTheLabAreSkipped(t *testing.T) {
	for _, b := range labBenches() {
		for _, r := range b.run(options{}, &quiet{}) {
			if r.Skipped == "" {
				t.Errorf("%+v", r)
			}
		}
	}
}

func TestPerFrame(t *testing.T) {
	var asked []int
	c := perFrame("sleeper", 2, func(n int) (int, time.Duration, error) {
		asked = append(asked, n)
		return n, time.Duration(n) * 50, nil
	})
	s, err := c.rep(time.Millisecond)
	if err != nil || s.values[0] != 50 {
		t.Errorf("got %v, %v; want 50 ns", s, err)
	}
	if n := asked[len(asked)-1]; n != 20000 {
		t.Errorf("a repetition of 1 ms moved %d frames, want 20000", n)
	}
}

// TestMemoryRow runs a row as it is run in earnest, only shorter.
func TestMemoryRow(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a second")
	}
	for _, name := range []string{"memory/64B/batch=32/ports=2/addresses=1k/cores=1", "memory/64B/pipe/batch=32/cores=1",
		"policy/guards+acl+receiver/established", "policy/acl/rules=10/stateless/new", "policy/acl/rules=1000/stateful/established", "policy/acl/rules=1000/stateful/new",
		"team/switch-independent/dynamic/receive", "team/static/address-hash/send", "qos/classes=64", "qos/classes=4/saturated",
		"toeplitz/64B", "overlay/nvgre/64B", "overlay/nvgre/65535B", "overlay/nvgre/65535B/cut"} {
		for _, b := range selectRows(allBenches(), regexp.MustCompile("^"+regexp.QuoteMeta(name)+"$")) {
			b.shortRep = time.Millisecond
			for _, r := range b.run(options{short: true}, &quiet{}) {
				if r.Failed != "" || r.Skipped != "" || r.Value == nil || *r.Value <= 0 || r.LimitRatio == nil {
					t.Errorf("%+v", r)
				}
			}
		}
	}
}
