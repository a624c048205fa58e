package overlay

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
)

// Random histories against a map: every version of the table stays what it was.
func TestTableAgainstMap(t *testing.T) {
	for _, byMAC := range []bool{false, true} {
		r := rand.New(rand.NewPCG(1, 2))
		tab := table{byMAC: byMAC}
		model := map[entry]entry{} // key to entry
		key := func(e entry) entry {
			k := entry{hi: e.hi, lo: e.lo, vsid: e.vsid & vsidMask}
			if byMAC {
				k.mac = e.mac &^ 0xffff
			}
			return k
		}
		type version struct {
			tab   table
			model map[entry]entry
		}
		var old []version
		ed := new(edit)
		for step := range 30000 {
			// Grow, shrink, grow.
			size := uint64(3000)
			if step/10000 == 1 {
				size = 40
			}
			e := entry{lo: r.Uint64N(size), mac: r.Uint64N(size) << 16, vsid: uint32(4096 + r.IntN(2)), peer: r.Uint32()}
			if r.IntN(4) == 0 {
				e.mac = 7 << 16 // many addresses of one VM
			}
			if r.IntN(3) > 0 && step/10000 != 1 {
				old, replaced := tab.put(ed, e)
				was, there := model[key(e)]
				require.Equal(t, there, replaced)
				require.Equal(t, was, old)
				model[key(e)] = e
			} else {
				for _, any := range model { // of the small phase: whatever there is
					if step/10000 == 1 {
						e = any
					}
					break
				}
				old, ok := tab.remove(ed, &e)
				was, there := model[key(e)]
				require.Equal(t, there, ok)
				require.Equal(t, was, old)
				delete(model, key(e))
			}
			require.Equal(t, len(model), tab.count)
			if r.IntN(50) == 0 {
				ed = new(edit)
			}
			if step%3000 == 0 {
				ed = new(edit)
				m := map[entry]entry{}
				for k, v := range model {
					m[k] = v
				}
				old = append(old, version{tab, m})
			}
		}
		for _, v := range append(old, version{tab, model}) {
			n := 0
			v.tab.all(func(e *entry) bool {
				n++
				require.Equal(t, v.model[key(*e)], *e)
				return true
			})
			require.Len(t, v.model, n)
			for _, e := range v.model {
				if byMAC {
					got := v.tab.lookupMAC(e.id(), e.mac)
					require.NotNil(t, got)
					require.False(t, e.before(got))
				} else {
					require.Equal(t, e, *v.tab.lookupCA(e.id(), ca{e.hi, e.lo}))
				}
			}
		}
		for _, e := range model {
			tab.remove(new(edit), &e)
		}
		require.Nil(t, tab.root)
	}
}

func TestEqualHashesAreToldApart(t *testing.T) {
	tab := table{byMAC: true}
	ed := new(edit)
	for i := range 200 {
		tab.put(ed, entry{lo: uint64(i), mac: 1 << 16, vsid: 5001})
	}
	require.Equal(t, uint64(0), tab.lookupMAC(5001, 1<<16).lo)
	require.Nil(t, tab.lookupMAC(5002, 1<<16))
	for i := range 200 {
		_, ok := tab.remove(new(edit), &entry{lo: uint64(i), mac: 1 << 16, vsid: 5001})
		require.True(t, ok, i)
	}
}

func TestRadix(t *testing.T) {
	var r radix[int]
	model := map[uint32]int{}
	rnd := rand.New(rand.NewPCG(3, 4))
	for range 5000 {
		k := rnd.Uint32() >> 8
		if rnd.IntN(2) == 0 {
			k %= 5000
		}
		if rnd.IntN(3) == 0 {
			r.remove(new(edit), k)
			delete(model, k)
		} else {
			r.put(new(edit), k, int(k)+1)
			model[k] = int(k) + 1
		}
	}
	before := r
	r.put(new(edit), 7, 99)
	require.Equal(t, model[7], before.get(7))
	require.Len(t, model, before.count)
	last, n := -1, 0
	before.all(func(k uint32, v int) bool {
		require.Greater(t, int(k), last)
		require.Equal(t, model[k], v)
		last, n = int(k), n+1
		return true
	})
	require.Len(t, model, n)
}

func TestAddressesSurviveEntries(t *testing.T) {
	for _, s := range []string{"10.0.0.1", "0.0.0.0", "::", "fd00::1", "255.255.255.254"} {
		r := LookupRecord{VSID: 0xfffffe, CA: addr(s), MAC: mac(9), Rule: Geneve}
		if r.CA.IsUnspecified() {
			r.Type = GatewayWildcard
		}
		e := r.entry(5)
		require.Equal(t, r.CA, e.ca())
		require.Equal(t, r.MAC, e.addr())
		require.Equal(t, r.VSID, e.id())
		require.Equal(t, r.Type, e.typ())
		require.Equal(t, r.Rule, e.rule())
	}
	l2 := LookupRecord{VSID: 5001, MAC: mac(1), Type: L2Only}
	e := l2.entry(0)
	require.Equal(t, netip.Addr{}, e.ca())
}
