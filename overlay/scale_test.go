package overlay

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
)

// bigPolicy is n records in subnets of 64 VMs each, on 1,000 hosts; up to 16,000 subnets.
func bigPolicy(n int) []Change {
	subnets := min(16000, max(1, n/64))
	changes := make([]Change, 0, n+2*subnets)
	for i := range subnets {
		v, id := MinVSID+VSID(i), RDID{1, byte(i >> 10), byte(i >> 2)} // four of a virtual network
		changes = append(changes,
			Change{Subnet: &Subnet{VSID: v, RDID: id}},
			Change{Route: &CustomerRoute{RDID: id, VSID: v, Destination: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i & 3), 0, 0}), 16)}})
	}
	for i := range n {
		changes = append(changes, Change{Record: bigRecord(i, subnets)})
	}
	return changes
}

func bigRecord(i, subnets int) *LookupRecord {
	r := &LookupRecord{VSID: MinVSID + VSID(i%subnets), MAC: ports.MAC{2, 1}}
	binary.BigEndian.PutUint32(r.MAC[2:], uint32(i))
	at := i/subnets + 2
	r.CA = netip.AddrFrom4([4]byte{10, byte(i % subnets & 3), byte(at >> 8), byte(at)})
	host := i % 1000
	r.PA = netip.AddrFrom4([4]byte{172, 16, byte(host >> 8), byte(host)})
	if host == 0 {
		r.PA = addr("192.0.2.1")
	}
	return r
}

func bigEngine(t testing.TB, n int) *Engine {
	e, err := NewEngine(&Config{Addresses: []ProviderAddress{{Address: prefix("192.0.2.1/24"), MAC: mac(0xa0)}},
		Routes: []ProviderRoute{{Destination: prefix("172.16.0.0/12"), NextHop: addr("192.0.2.254")}}})
	require.NoError(t, err)
	require.NoError(t, e.Replace(bigPolicy(n)))
	e.neighbors.heard(0, addr("192.0.2.254"), mac(0xfe), time.Hour)
	return e
}

func TestAMillionRecords(t *testing.T) {
	if testing.Short() || raceEnabled {
		t.Skip("needs memory and time")
	}
	const n = 1_000_000
	changes := bigPolicy(n)
	e, err := NewEngine(nil)
	require.NoError(t, err)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	start := time.Now()
	require.NoError(t, e.Replace(changes))
	took := time.Since(start)
	runtime.GC()
	runtime.ReadMemStats(&after)
	s := e.snap.Load()
	require.Equal(t, n, s.byCA.count)
	require.Equal(t, n, s.byMAC.count)
	require.Equal(t, 15625, s.subnets.count)
	bytes := (after.HeapAlloc - before.HeapAlloc) / n
	t.Logf("1,000,000 records in %v, %d bytes each", took, bytes)
	require.Less(t, bytes, uint64(400))
	runtime.KeepAlive(changes)

	// What is looked up and what is changed costs what it does among few. The least of many rounds counts,
	// as others use the machine too.
	small := bigEngine(t, 1000)
	sizes := [2]int{1000, n}
	engines := [2]*Engine{small, e}
	var lookup, change [2]time.Duration
	for i, e := range engines {
		w := e.NewWorker()
		w.begin(0)
		subnets := max(1, sizes[i]/64)
		var keys [1000]ca
		var vsids [1000]VSID
		for k := range keys {
			r := bigRecord(k*(sizes[i]/1000), min(subnets, 16000))
			keys[k], vsids[k] = caOf(r.CA), r.VSID
		}
		lookup[i] = least(30, len(keys), func(k int) {
			if w.record(vsids[k], keys[k]) == nil {
				t.Fatal(k)
			}
		})
		change[i] = least(30, 200, func(k int) {
			r := bigRecord(k*7919%sizes[i], min(subnets, 16000))
			r.PA = netip.AddrFrom4([4]byte{172, 16, 0, byte(5 + k&1)})
			if err := e.Apply([]Change{{Record: r}}); err != nil {
				t.Fatal(err)
			}
		})
	}
	t.Logf("of 1,000 and of %d records: lookup %v and %v, change %v and %v", n, lookup[0], lookup[1], change[0], change[1])
	require.Less(t, lookup[1], 10*lookup[0]+time.Microsecond)
	require.Less(t, change[1], 10*change[0])
}

// least returns how long one of n calls takes in the best of the rounds.
func least(rounds, n int, do func(i int)) time.Duration {
	best := time.Duration(1 << 62)
	for range rounds {
		start := time.Now()
		for i := range n {
			do(i)
		}
		best = min(best, time.Since(start))
	}
	return best / time.Duration(n)
}

func BenchmarkReplace(b *testing.B) {
	changes := bigPolicy(1_000_000)
	e, _ := NewEngine(nil)
	for b.Loop() {
		_ = e.Replace(changes)
	}
}

// A record is moved to another host, alone.
func BenchmarkApply(b *testing.B) {
	for _, n := range []int{1000, 1_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			e := bigEngine(b, n)
			subnets := max(1, n/64)
			i := 0
			b.ReportAllocs()
			for b.Loop() {
				r := bigRecord(i*7919%n, min(subnets, 16000))
				r.PA = netip.AddrFrom4([4]byte{172, 16, 0, byte(5 + i/n&1)})
				_ = e.Apply([]Change{{Record: r}})
				i++
			}
		})
	}
}

// The same 1,000 records are looked up among more and more others, and all of them.
func BenchmarkLookup(b *testing.B) {
	for _, n := range []int{1000, 1_000_000} {
		e := bigEngine(b, n)
		w := e.NewWorker()
		w.begin(0)
		for _, used := range []int{1000, n} {
			var keys []ca
			var vsids []VSID
			for i := range used {
				r := bigRecord(i*(n/used), min(max(1, n/64), 16000))
				keys, vsids = append(keys, caOf(r.CA)), append(vsids, r.VSID)
			}
			b.Run(fmt.Sprintf("%d of %d", used, n), func(b *testing.B) {
				i := 0
				for b.Loop() {
					if w.record(vsids[i], keys[i]) == nil {
						b.Fatal(i)
					}
					if i++; i == used {
						i = 0
					}
				}
			})
		}
	}
}

// Outbound and inbound of a batch of 32, a frame.
func BenchmarkEngine(b *testing.B) {
	for _, n := range []int{1000, 1_000_000} {
		subnets := min(max(1, n/64), 16000)
		e := bigEngine(b, n)
		// A VM of this host, and one in the same subnet on another.
		var me, other *LookupRecord
		for i := 0; me == nil || other == nil; i++ {
			r := bigRecord(i, subnets)
			switch {
			case me == nil && r.PA == addr("192.0.2.1"):
				me, i = r, -1
			case me != nil && r.VSID == me.VSID && r.PA != me.PA:
				other = r
			}
		}
		p, err := e.AddPort(PortConfig{VSID: me.VSID, MAC: me.MAC})
		require.NoError(b, err)
		w := e.NewWorker()
		for _, size := range []int{64, 1450} {
			out := packet{src: me.MAC, dst: other.MAC, from: me.CA, to: other.CA, payload: size - 42}
			routed := out
			routed.dst = routerOfVSID(me.VSID)
			in := packet{src: other.MAC, dst: me.MAC, from: other.CA, to: me.CA, payload: size - 42}
			tun, _ := NewTunnel(&TunnelConfig{Src: other.PA, Dst: addr("192.0.2.1"), SrcMAC: mac(1), DstMAC: mac(0xa0)})
			batch := func(p packet) (fs []*ports.Frame) {
				for range 32 {
					fs = append(fs, p.frame(b))
				}
				return fs
			}
			b.Run(fmt.Sprintf("%d/out/%d", n, size), func(b *testing.B) {
				fs := batch(out)
				b.ReportAllocs()
				for b.Loop() {
					for _, o := range w.Outbound(time.Hour, p, fs) {
						if o.Drop != 0 {
							b.Fatal(o.Drop)
						}
						o.Frame.TrimFront(42)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/32, "ns/frame")
			})
			b.Run(fmt.Sprintf("%d/routed/%d", n, size), func(b *testing.B) {
				fs := batch(routed)
				for b.Loop() {
					for _, f := range fs {
						copy(f.Head(), routed.dst[:])
						copy(f.Head()[6:], routed.src[:])
						f.Head()[22] = 64
					}
					for _, o := range w.Outbound(time.Hour, p, fs) {
						if o.Drop != 0 {
							b.Fatal(o.Drop)
						}
						o.Frame.TrimFront(42)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/32, "ns/frame")
			})
			b.Run(fmt.Sprintf("%d/in/%d", n, size), func(b *testing.B) {
				fs := batch(in)
				for _, f := range fs {
					_ = tun.Encap(f, me.VSID)
				}
				b.ReportAllocs()
				for b.Loop() {
					for _, o := range w.Inbound(time.Hour, fs) {
						if o.Drop != 0 {
							b.Fatal(o.Drop)
						}
						o.Frame.Prepend(42)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/32, "ns/frame")
			})
		}
	}
}
