package main

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"math/rand/v2"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hvswitch/hvswitch/vswitch"
)

// measurement is what came through.
type measurement struct {
	guests []guestState
	flows  []flow
	trips  roundTrips // from the first guest to the second
	ports  []vswitch.PortStats
}

// guestState is how a guest came up.
type guestState struct {
	name         string
	booted       time.Duration
	segmentation bool // the guest sends TCP segments of up to 64 KiB
}

// flow is what passed from one machine to another.
type flow struct {
	from, to   string
	rtt        []time.Duration // of pings
	transfer                   // by TCP
	ours, qemu time.Duration   // of processors: what this process and those of QEMU used meanwhile
}

// transfer is what arrived.
type transfer struct {
	bits float64
	rate rate
}

// perGigabit returns how many seconds of a processor a gigabit took that was transferred in this time of processors.
func (t transfer) perGigabit(used time.Duration) float64 { return used.Seconds() / (t.bits / 1e9) }

// pings is how many echo requests are sent to see whether a machine reaches another.
const pings = 10

// measure sees what the two VMs and the host can send to each other. That something does not come through is an error.
func (l *lab) measure(ctx context.Context, length time.Duration) (*measurement, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*length+time.Minute)
	defer cancel()
	m := &measurement{}
	for _, v := range l.vms {
		g, err := v.state(ctx)
		if err != nil {
			return nil, err
		}
		m.guests = append(m.guests, g)
	}
	a, b := l.vms[0], l.vms[1]
	between, err := a.ping(ctx, b)
	if err != nil {
		return nil, err
	}
	fromHost, err := l.pingFromHost(ctx, a)
	if err != nil {
		return nil, err
	}
	m.flows = []flow{{from: a.name, to: b.name, rtt: between}, {from: "host", to: a.name, rtt: fromHost}}
	for i, run := range []func() (transfer, error){
		func() (transfer, error) { return a.iperf(ctx, b, length) },
		func() (transfer, error) { return l.download(ctx, a, length) },
	} {
		ours, qemu := cpuTime(), l.cpuOfVMs()
		f := &m.flows[i]
		if f.transfer, err = run(); err != nil {
			return nil, err
		}
		f.ours, f.qemu = cpuTime()-ours, l.cpuOfVMs()-qemu
	}
	if m.trips, err = a.roundTrips(ctx, b.addr.Addr(), length); err != nil {
		return nil, err
	}
	m.ports = l.sw.Stats().Ports
	return m, nil
}

// cpuOfVMs returns the processor time that the VMs have used.
func (l *lab) cpuOfVMs() (sum time.Duration) {
	for _, v := range l.vms {
		sum += cpuTimeOf(v.process.Process.Pid)
	}
	return sum
}

// state waits for the link of a guest.
func (v *vm) state(ctx context.Context) (guestState, error) {
	said, err := v.run(ctx, "link")
	on := slices.ContainsFunc(said, func(l line) bool { return strings.HasPrefix(l.text, "tcp-segmentation-offload: on") })
	return guestState{v.name, v.booted, on}, err
}

// ping sends echo requests to another VM and returns how long the replies took.
func (v *vm) ping(ctx context.Context, to *vm) ([]time.Duration, error) {
	said, err := v.run(ctx, "ping -c %d -i 0.1 %v", pings, to.addr.Addr())
	if err != nil {
		return nil, err
	}
	var all []time.Duration
	for _, r := range replies(said) {
		all = append(all, r.rtt)
	}
	if len(all) < pings {
		return nil, fmt.Errorf("%s: %d of %d pings to %s unanswered", v.name, pings-len(all), pings, to.name)
	}
	return all, nil
}

// reply is an answer to a ping.
type reply struct {
	at  time.Time
	rtt time.Duration
}

var replyLine = regexp.MustCompile(` seq=\d+ ttl=\d+ time=([\d.]+) ms`)

// replies finds the lines that ping prints.
func replies(said []line) (all []reply) {
	for _, l := range said {
		if m := replyLine.FindStringSubmatch(l.text); m != nil {
			ms, _ := strconv.ParseFloat(m[1], 64)
			all = append(all, reply{l.at, time.Duration(ms * float64(time.Millisecond))})
		}
	}
	return all
}

// pingFromHost sends echo requests from the host.
func (l *lab) pingFromHost(ctx context.Context, to *vm) (all []time.Duration, err error) {
	for range pings {
		rtt, err := l.stack.Ping(ctx, to.addr.Addr())
		if err != nil {
			return nil, err
		}
		all = append(all, rtt)
	}
	return all, nil
}

// rate is in bit/s.
type rate float64

func (r rate) String() string { return fmt.Sprintf("%.2f Gbit/s", float64(r)/1e9) }

var received = regexp.MustCompile(`-([\d.]+) +sec .* ([\d.]+) Kbits/sec +receiver`)

// iperf sends by one TCP connection to another VM and returns what arrived.
func (v *vm) iperf(ctx context.Context, to *vm, length time.Duration) (transfer, error) {
	said, err := v.run(ctx, "iperf3 -c %v -t %.0f -i 0 -f k", to.addr.Addr(), max(1, length.Seconds()))
	if err != nil {
		return transfer{}, err
	}
	for _, l := range said {
		if m := received.FindStringSubmatch(l.text); m != nil {
			seconds, _ := strconv.ParseFloat(m[1], 64)
			kbits, _ := strconv.ParseFloat(m[2], 64)
			return transfer{kbits * 1e3 * seconds, rate(kbits * 1e3)}, nil
		}
	}
	return transfer{}, fmt.Errorf("%s: iperf3 did not say what was received:\n%s", v.name, v.tail())
}

// download has a VM fetch a file from the host for that time, and compares what was sent and what arrived.
func (l *lab) download(ctx context.Context, to *vm, length time.Duration) (transfer, error) {
	listener, err := l.stack.Listen(80)
	if err != nil {
		return transfer{}, err
	}
	f := &file{length: length, sum: md5.New()}
	site := &http.Server{Handler: f}
	served := make(chan error, 1)
	go func() { served <- site.Serve(listener) }()
	said, err := to.run(ctx, "wget -q -O - http://%v/ | md5sum", l.stack.Addr())
	if err := errors.Join(err, site.Shutdown(ctx)); err != nil {
		return transfer{}, err
	}
	<-served
	sum := hex.EncodeToString(f.sum.Sum(nil))
	if !slices.ContainsFunc(said, func(l line) bool { return strings.HasPrefix(l.text, sum) }) {
		return transfer{}, fmt.Errorf("%s did not get what the host sent:\n%s", to.name, to.tail())
	}
	bits := float64(f.size) * 8
	return transfer{bits, rate(bits / f.took.Seconds())}, nil
}

// file is served once: random bytes, for as long as there is time.
type file struct {
	length, took time.Duration
	size         int
	sum          hash.Hash
}

func (f *file) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	random := rand.NewChaCha8([32]byte{})
	chunk := make([]byte, 64<<10)
	for start := time.Now(); f.took < f.length; f.took = time.Since(start) {
		_, _ = random.Read(chunk)
		n, err := w.Write(chunk)
		f.size += n
		f.sum.Write(chunk[:n])
		if err != nil {
			return
		}
	}
}
