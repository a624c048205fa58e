package main

import (
	"errors"
	"runtime"
	"time"

	"github.com/hvswitch/hvswitch/internal/header"
	"github.com/hvswitch/hvswitch/internal/toeplitz"
)

// The row of the hash that spreads flows over queues.

func toeplitzBenches() []*bench { return []*bench{policyBench("toeplitz/64B", (*scene).toeplitz)} }

// toeplitz takes the hash of frames whose headers are known. The limit has the tuples ready and no
// other kind of frame to think of.
func (s *scene) toeplitz(c *contest) (err error) {
	hash := toeplitz.New(toeplitz.DefaultKey)
	list := flowFrames()
	var headers [burst]header.Header
	var tuples [burst][12]byte
	// The tables of the limit: the hash is linear, so that of a tuple is the sum of those of its
	// bytes.
	var tables [12][256]uint32
	probe := append([]byte(nil), list[0].Head()...)
	clear(probe[ethLen+12 : ethLen+ipLen+4])
	sum := func(b []byte) uint32 {
		var h header.Header
		h.Parse(b, len(b))
		return hash.Of(&h, b)
	}
	for i := range tables {
		for v := range tables[i] {
			probe[ethLen+12+i] = byte(v)
			tables[i][v] = sum(probe)
		}
		probe[ethLen+12+i] = 0
	}
	for i, f := range list {
		headers[i].Parse(f.Head(), f.Len())
		copy(tuples[i][:], f.Head()[ethLen+12:])
	}
	bare := func(t *[12]byte) (x uint32) {
		return tables[0][t[0]] ^ tables[1][t[1]] ^ tables[2][t[2]] ^ tables[3][t[3]] ^ tables[4][t[4]] ^ tables[5][t[5]] ^
			tables[6][t[6]] ^ tables[7][t[7]] ^ tables[8][t[8]] ^ tables[9][t[9]] ^ tables[10][t[10]] ^ tables[11][t[11]]
	}
	for i := range list {
		if hash.Of(&headers[i], list[i].Head()) != bare(&tuples[i]) {
			return errors.New("hash and limit differ")
		}
	}
	heads := make([][]byte, len(list))
	for i, f := range list {
		heads[i] = f.Head()
	}
	rounds := func(n int, one func() uint32) (int, time.Duration, error) {
		k := max(1, n/burst)
		x := uint32(0)
		start := time.Now()
		for range k {
			x ^= one()
		}
		d := time.Since(start)
		runtime.KeepAlive(x)
		return k * burst, d, nil
	}
	c.ours = perFrame("hvswitch", 1, func(n int) (int, time.Duration, error) {
		return rounds(n, func() (x uint32) {
			for i := range heads {
				x ^= hash.Of(&headers[i], heads[i])
			}
			return x
		})
	})
	c.limit = perFrame("byte tables", 1, func(n int) (int, time.Duration, error) {
		return rounds(n, func() (x uint32) {
			for i := range tuples {
				x ^= bare(&tuples[i])
			}
			return x
		})
	})
	c.also, err = s.policy("bare forwarding", policySetup{tuples: guestTuples()})
	return err
}
