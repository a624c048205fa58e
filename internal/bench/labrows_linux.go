package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"strings"
	"time"
)

// labKind is a kind of device between which frames are moved.
type labKind struct {
	group       string
	ours, relay string // tools
	tap         bool   // the switch makes the devices; otherwise they are veth
}

func labBenches() []*bench {
	var all []*bench
	afpacketKind := labKind{"afpacket", "switch-packet", "relay-packet", false}
	for _, k := range []labKind{{"tap", "switch-tap", "relay-tap", true}, afpacketKind} {
		free, one := &stationSet{kind: k, cpu: anyCPU}, &stationSet{kind: k, cpu: len(cpus) - 1}
		all = append(all,
			free.bench(1100*time.Millisecond, 300*time.Millisecond, measureTCP,
				row{"tcp", "Gbit/s", 0, true}, row{"tcp/cpu", "ms/Gbit", 1, false}, row{"tcp/cpu-all", "ms/Gbit", 2, false}),
			free.bench(500*time.Millisecond, 150*time.Millisecond, measureRate,
				row{"64B", "Mframe/s", 0, true}),
		)
		for _, of := range []*stationSet{free, one} {
			for _, proto := range []string{"udp", "tcp"} {
				n := fmt.Sprintf("%s-rtt/cpus=%s/", proto, choose(of == one, "1", "all"))
				all = append(all, of.bench(500*time.Millisecond, 100*time.Millisecond, measureRTT(proto),
					row{n + "p50", "µs", 0, false}, row{n + "p90", "µs", 1, false}, row{n + "p99", "µs", 2, false}))
			}
		}
	}
	short := &stationSet{kind: afpacketKind, cpu: anyCPU, short: true}
	all = append(all, short.bench(1100*time.Millisecond, 300*time.Millisecond, measureTCP,
		row{"short/tcp", "Gbit/s", 0, true}, row{"short/tcp/cpu", "ms/Gbit", 1, false}, row{"short/tcp/cpu-all", "ms/Gbit", 2, false}))
	return append(all, vhostBenches()...)
}

// stationSet is stations that are alike but for what is between their namespaces. Benches share them;
// they stay until the end, because idle ones cost nothing.
type stationSet struct {
	kind  labKind
	cpu   int
	short bool // the sender cuts its segments itself

	built                    bool
	err                      error
	ours, relay, bridge, ovs *station
	note                     string
}

func (t *stationSet) build() {
	k := t.kind
	add := func(name string, build func(*station) error) (*station, error) {
		s, err := newStation(name, t.cpu)
		if err == nil {
			err = build(s)
		}
		if err == nil {
			err = s.listen()
		}
		if err == nil && t.short {
			_, err = output(within(s.a, "ethtool", "-K", "e0", "tso", "off", "gso", "off"))
		}
		if err != nil {
			s.close()
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		return s, nil
	}
	if t.ours, t.err = add("hvswitch", func(s *station) error { return k.daemon(s, k.ours) }); t.err != nil {
		return
	}
	if t.relay, t.err = add("bare relay", func(s *station) error { return k.daemon(s, k.relay) }); t.err != nil {
		return
	}
	// A machine may lack a peer, and does not lose the row by it.
	var noBridge, noOVS error
	t.bridge, noBridge = add("kernel bridge", (*station).bridge)
	t.ovs, noOVS = add("Open vSwitch", k.ovs)
	if missing := skip(""); errors.As(noOVS, &missing) {
		noOVS = nil // that is usual, and no news
	}
	if why := errors.Join(noBridge, noOVS); why != nil {
		t.note = strings.ReplaceAll(why.Error(), "\n", ", ")
	}
}

func (t *stationSet) bench(rep, shortRep time.Duration, measure func(s *station, d time.Duration) (sample, error), rows ...row) *bench {
	for i := range rows {
		rows[i].name = t.kind.group + "/" + rows[i].name
	}
	tcp := strings.HasSuffix(rows[0].name, "/tcp")
	return &bench{rows: rows, lab: true, rep: rep, shortRep: shortRep, open: func(options) (*contest, error) {
		if labMissing != "" {
			return nil, skip(labMissing)
		}
		if tcp {
			if _, err := exec.LookPath("iperf3"); err != nil {
				return nil, skip("needs the program iperf3")
			}
		}
		if t.short {
			if _, err := exec.LookPath("ethtool"); err != nil {
				return nil, skip("needs the program ethtool")
			}
		}
		if t.kind.tap {
			if _, err := os.Stat("/dev/net/tun"); err != nil {
				return nil, skip("needs /dev/net/tun")
			}
		}
		if !t.built {
			t.built = true
			t.build()
		}
		if t.err != nil {
			return nil, t.err
		}
		of := func(s *station) *contestant {
			if s == nil {
				return nil
			}
			return &contestant{s.name, func(d time.Duration) (sample, error) { return measure(s, d) }}
		}
		c := &contest{ours: of(t.ours), limit: of(t.relay), peer: of(t.bridge)}
		if t.ovs != nil {
			c.peer, c.also = of(t.ovs), of(t.bridge)
		}
		if t.note != "" {
			c.note = func() string { return t.note }
		}
		return c, nil
	}}
}

// daemon puts one of our tools between the namespaces.
func (k labKind) daemon(s *station, name string) error {
	if k.tap {
		if err := s.daemon(name); err != nil {
			return err
		}
		return s.handOver()
	}
	if err := s.veths(); err != nil {
		return err
	}
	return s.daemon(name)
}

func (s *station) bridge() error {
	if err := ip("-n "+s.s+" link add br0 type bridge", "-n "+s.s+" link set br0 up"); err != nil {
		return err
	}
	if err := s.veths(); err != nil {
		return err
	}
	return ip("-n "+s.s+" link set "+devA+" master br0", "-n "+s.s+" link set "+devB+" master br0")
}

// measureTCP gives Gbit/s of one stream and the processor time of a gigabit in ms: that of the switch's
// process, in the kernel too, and that of the whole machine with both ends of the stream.
func measureTCP(s *station, d time.Duration) (sample, error) {
	args := []string{"-c", ipB, "-p", iperfPort, "-J", "-i", "0"}
	if d < time.Second {
		args = append(args, "-n", "500M")
	} else {
		args = append(args, "-t", "1") // iperf3 knows whole seconds only
	}
	// BBR, the default of some machines, halves what veth carries.
	if b, _ := os.ReadFile("/proc/sys/net/ipv4/tcp_available_congestion_control"); strings.Contains(string(b), "cubic") {
		args = append(args, "-C", "cubic")
	}
	before := cpuTimeOf(s.pids)
	allBefore, _, counted := cpuTime()
	out, err := within(s.a, "iperf3", args...).Output()
	if err != nil {
		return sample{}, fmt.Errorf("iperf3: %w: %s", err, out)
	}
	used := float64((cpuTimeOf(s.pids) - before).Nanoseconds()) / 1e6
	if s.pids == nil {
		used = math.NaN() // the kernel's time is not told apart
	}
	allAfter, _, _ := cpuTime()
	usedByAll := (allAfter - allBefore) * 1e3
	if !counted {
		usedByAll = math.NaN()
	}
	var r struct {
		End struct {
			Received struct {
				Bytes float64 `json:"bytes"`
				Rate  float64 `json:"bits_per_second"`
			} `json:"sum_received"`
		} `json:"end"`
	}
	if err := json.Unmarshal(out, &r); err != nil || r.End.Received.Bytes == 0 {
		return sample{}, fmt.Errorf("iperf3: %s", out)
	}
	gigabits := r.End.Received.Bytes * 8 / 1e9
	return sample{values: []float64{r.End.Received.Rate / 1e9, used / gigabits, usedByAll / gigabits}, allocs: -1}, nil
}

// measureRate gives Mframe/s that arrive when a sender with a CPU of its own sends more.
func measureRate(s *station, d time.Duration) (sample, error) {
	before, err := counter(s.b, "rx", "packets")
	if err != nil {
		return sample{}, err
	}
	sent, err := numbers(s.a, 0, "send", "e0", "64", d.String())
	if err != nil {
		return sample{}, err
	}
	time.Sleep(20 * time.Millisecond) // for those on their way
	after, err := counter(s.b, "rx", "packets")
	if err != nil {
		return sample{}, err
	}
	return sample{values: []float64{float64(after-before) / sent[1] / 1e6}, allocs: -1}, nil
}

// measureRTT gives the median, the 90th and the 99th percentile of the way there and back in µs, of a
// datagram or of 64 bytes on a TCP connection.
func measureRTT(proto string) func(s *station, d time.Duration) (sample, error) {
	return func(s *station, d time.Duration) (sample, error) {
		v, err := numbers(s.a, s.cpu, proto+"-ping", ipB+":"+echoPort, d.String())
		if err == nil && v[3] == 0 {
			err = errors.New("nothing came back")
		}
		return sample{values: v, allocs: -1}, err
	}
}
