package overlay

import (
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// What a worker remembers is never older than its snapshot.
func TestCacheSeesEveryChange(t *testing.T) {
	e, err := NewEngine(nil)
	require.NoError(t, err)
	w := e.NewWorker()
	r := rand.New(rand.NewPCG(5, 6))
	for i := range 1500 {
		n := byte(r.IntN(40))
		c := Change{Record: &LookupRecord{VSID: 5001, CA: netip.AddrFrom4([4]byte{10, 0, 0, n + 1}), MAC: mac(n/3 + 1), PA: netip.AddrFrom4([4]byte{192, 0, 2, byte(1 + r.IntN(9))})}}
		c.Delete = r.IntN(3) == 0
		switch {
		case i%150 == 0:
			c.Delete = false
			require.NoError(t, e.Replace([]Change{c}))
		default:
			require.NoError(t, e.Apply([]Change{c, c}))
		}
		w.begin(0)
		for n := range byte(40) {
			a := caOf(netip.AddrFrom4([4]byte{10, 0, 0, n + 1}))
			require.Equal(t, w.snap.byCA.lookupCA(5001, a), w.record(5001, a))
			m := macWord(mac(n/3 + 1))
			require.Equal(t, w.snap.byMAC.lookupMAC(5001, m), w.recordOfMAC(5001, m))
		}
	}
}

func TestCacheWhileOthersChange(t *testing.T) {
	e, err := NewEngine(nil)
	require.NoError(t, err)
	var wg sync.WaitGroup
	stop := make(chan struct{})
	wg.Go(func() {
		defer close(stop)
		for i := range 3000 {
			c := Change{Record: &LookupRecord{VSID: 5001, CA: addr("10.0.0.1"), MAC: mac(1), PA: netip.AddrFrom4([4]byte{192, 0, 2, byte(1 + i%9)})}, Delete: i%3 == 0}
			if i%10 == 0 && !c.Delete {
				_ = e.Replace([]Change{c})
			} else {
				_ = e.Apply([]Change{c})
			}
		}
	})
	w := e.NewWorker()
	a := caOf(addr("10.0.0.1"))
	for {
		w.begin(0)
		want, got := w.snap.byCA.lookupCA(5001, a), w.record(5001, a)
		if want != nil && got != nil {
			require.Equal(t, *want, *got)
		} else {
			require.Equal(t, want, got)
		}
		select {
		case <-stop:
			wg.Wait()
			return
		default:
		}
	}
}
