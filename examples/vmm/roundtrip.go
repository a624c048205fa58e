package main

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"time"
)

//go:embed rtt/main.go
var rttSource []byte

// buildRTT returns the file of the program rtt for guests, which it builds unless it is in the directory cache.
func buildRTT(ctx context.Context, cache string) (file string, err error) {
	file = filepath.Join(cache, fmt.Sprintf("rtt-%x", sha256.Sum256(rttSource)))
	if _, err := os.Stat(file); err == nil {
		return file, nil
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", err
	}
	work, err := os.MkdirTemp(cache, "building")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(work)
	if err := os.WriteFile(filepath.Join(work, "rtt.go"), rttSource, 0o644); err != nil {
		return "", err
	}
	// The guest has the libraries of other programs only, so it needs none.
	if _, err := output(ctx, work, "env", "CGO_ENABLED=0", "GOFLAGS=", "go", "build", "-ldflags=-s -w", "-o", "rtt", "rtt.go"); err != nil {
		return "", fmt.Errorf("program rtt of the guests: %w", err)
	}
	return file, os.Rename(filepath.Join(work, "rtt"), file)
}

// roundTrips is how long 64 bytes by TCP took there and back.
type roundTrips struct {
	n             int
	p50, p90, p99 time.Duration
}

var tripsLine = regexp.MustCompile(`^(\d+) round trips, µs: p50 ([\d.]+) p90 ([\d.]+) p99 ([\d.]+)$`)

// roundTrips makes round trips to an address of another VM for that time.
func (v *vm) roundTrips(ctx context.Context, to netip.Addr, length time.Duration) (r roundTrips, err error) {
	said, err := v.run(ctx, "rtt %v %v", to, length)
	if err != nil {
		return r, err
	}
	for _, l := range said {
		if m := tripsLine.FindStringSubmatch(l.text); m != nil {
			r.n, _ = strconv.Atoi(m[1])
			for i, p := range []*time.Duration{&r.p50, &r.p90, &r.p99} {
				micro, _ := strconv.ParseFloat(m[2+i], 64)
				*p = time.Duration(micro * float64(time.Microsecond)).Round(time.Microsecond)
			}
			return r, nil
		}
	}
	return r, fmt.Errorf("%s: rtt did not say how long it took:\n%s", v.name, v.tail())
}
