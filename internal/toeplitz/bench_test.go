package toeplitz

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/hvswitch/hvswitch/internal/header"
)

var sink uint32

// bare12 is the hash of a tuple that lies ready: the limit that Of is measured against.
func (t *Hash) bare12(in *[12]byte) uint32 {
	return t.of[0][in[0]] ^ t.of[1][in[1]] ^ t.of[2][in[2]] ^ t.of[3][in[3]] ^
		t.of[4][in[4]] ^ t.of[5][in[5]] ^ t.of[6][in[6]] ^ t.of[7][in[7]] ^
		t.of[8][in[8]] ^ t.of[9][in[9]] ^ t.of[10][in[10]] ^ t.of[11][in[11]]
}

// One TCP tuple of IPv4 by Of, by a bare table and bit by bit; medians of interleaved runs.
func BenchmarkTCP4(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 2))
	hash := New(DefaultKey)
	var frames [64][]byte
	var headers [64]header.Header
	var tuples [64][12]byte
	for i := range frames {
		for j := range tuples[i] {
			tuples[i][j] = byte(r.Uint32())
		}
		in := tuples[i][:]
		frames[i] = packet(
			netip.AddrPortFrom(netip.AddrFrom4([4]byte(in)), uint16(in[8])<<8|uint16(in[9])),
			netip.AddrPortFrom(netip.AddrFrom4([4]byte(in[4:])), uint16(in[10])<<8|uint16(in[11])), header.TCP)
		headers[i] = *parse(b, frames[i])
	}
	const rounds = 256 * 64
	ways := []struct {
		name string
		run  func()
		ns   []float64
	}{
		{name: "Of", run: func() {
			for i := range rounds {
				sink += hash.Of(&headers[i&63], frames[i&63])
			}
		}},
		{name: "table", run: func() {
			for i := range rounds {
				sink += hash.bare12(&tuples[i&63])
			}
		}},
		{name: "bitwise", run: func() {
			for i := range rounds / 16 {
				sink += bitwise(DefaultKey, tuples[i&63][:])
			}
		}},
	}
	for b.Loop() {
		for i := range ways {
			start := time.Now()
			ways[i].run()
			ways[i].ns = append(ways[i].ns, float64(time.Since(start)))
		}
	}
	median := func(i int, n float64) float64 {
		slices.Sort(ways[i].ns)
		return ways[i].ns[len(ways[i].ns)/2] / n
	}
	of, table, bits := median(0, rounds), median(1, rounds), median(2, rounds/16)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(of, "Of-ns")
	b.ReportMetric(table, "table-ns")
	b.ReportMetric(bits, "bitwise-ns")
	b.ReportMetric(of/table, "Of/table")
	b.ReportMetric(bits/of, "bitwise/Of")
}

func BenchmarkTCP6(b *testing.B) {
	hash := New(DefaultKey)
	frame := packet(netip.MustParseAddrPort("[3ffe:2501:200:1fff::7]:2794"), netip.MustParseAddrPort("[ff02::1]:1766"), header.TCP)
	h := parse(b, frame)
	b.ReportAllocs()
	for b.Loop() {
		sink += hash.Of(h, frame)
	}
}

func BenchmarkNew(b *testing.B) {
	for b.Loop() {
		sink += New(DefaultKey).of[35][255]
	}
}
