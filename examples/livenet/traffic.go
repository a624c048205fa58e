package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// pings is how many echo requests are sent to see whether a machine reaches another.
const pings = 5

var (
	received = regexp.MustCompile(`(\d+) received`)
	average  = regexp.MustCompile(`= [\d.]+/([\d.]+)/`)
)

// ping runs the ping of the machine and returns how many replies came and their average time.
func ping(ctx context.Context, from, to *machine) (replies int, rtt time.Duration, err error) {
	out, err := from.ns.command(ctx, "ping", "-n", "-q", "-c", strconv.Itoa(pings), "-i", "0.1", "-W", "2", to.addr.Addr().String()).CombinedOutput()
	n := received.FindSubmatch(out)
	if n == nil {
		return 0, 0, fmt.Errorf("ping: %v: %s", err, strings.TrimSpace(string(out)))
	}
	replies, _ = strconv.Atoi(string(n[1]))
	if ms := average.FindSubmatch(out); ms != nil {
		f, _ := strconv.ParseFloat(string(ms[1]), 64)
		rtt = time.Duration(f * float64(time.Millisecond))
	}
	return replies, rtt, nil
}

// rate is in bit/s.
type rate float64

func (r rate) String() string {
	switch {
	case r >= 1e9:
		return fmt.Sprintf("%.2f Gbit/s", float64(r)/1e9)
	default:
		return fmt.Sprintf("%.2f Mbit/s", float64(r)/1e6)
	}
}

// iperf runs one TCP flow and returns the rate at which its bytes arrived.
func iperf(ctx context.Context, from, to *machine, seconds int) (rate, error) {
	stop, err := serve(ctx, to)
	if err != nil {
		return 0, err
	}
	defer stop()
	// Some systems make BBR the default, which paces; CUBIC goes as fast as it can.
	out, err := from.ns.command(ctx, "iperf3", "-c", to.addr.Addr().String(), "-C", "cubic", "-t", strconv.Itoa(seconds), "-J").Output()
	var report struct {
		Error string
		End   struct {
			Received struct {
				BitsPerSecond float64 `json:"bits_per_second"`
			} `json:"sum_received"`
		}
	}
	if jsonErr := json.Unmarshal(out, &report); jsonErr != nil {
		return 0, fmt.Errorf("iperf3: %v, and its report is not JSON: %w", err, jsonErr)
	}
	if report.Error != "" {
		return 0, fmt.Errorf("iperf3: %s", report.Error)
	}
	return rate(report.End.Received.BitsPerSecond), nil
}

// serve starts the iperf3 server of a machine, for one client, and returns when it listens.
func serve(ctx context.Context, m *machine) (stop func(), err error) {
	ctx, cancel := context.WithCancel(ctx)
	c := m.ns.command(ctx, "iperf3", "-s", "-1", "--forceflush")
	stdout, err := c.StdoutPipe()
	if err != nil {
		cancel()
		return nil, err
	}
	if err := c.Start(); err != nil {
		cancel()
		return nil, err
	}
	stop = func() {
		cancel()
		c.Wait()
	}
	said := bufio.NewScanner(stdout)
	for said.Scan() {
		if strings.HasPrefix(said.Text(), "Server listening") {
			return stop, nil
		}
	}
	stop()
	return nil, fmt.Errorf("iperf3 server of %s: ended before it listened", m.name)
}
