package overlay

import (
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
)

// Policy changes, learning, ports come and go while two workers forward.
func TestChangesUnderTraffic(t *testing.T) {
	s := newTenants(t)
	s.apply(Change{Subnet: &Subnet{VSID: 5001, RDID: red, Learning: true}})
	s.apply(Change{Record: &LookupRecord{VSID: 5001, MAC: mac(5), PA: s.hosts[0].pa, Type: L2Only}})
	p5 := s.port(0, 5, 5001, mac(5))
	s.send(0, s.p[1], udp(mac(2), "10.0.0.12").frame(t))
	e := s.hosts[0].e
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for n := range 2 {
		wg.Go(func() {
			w := e.NewWorker()
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				now := time.Hour + time.Duration(i)*time.Millisecond
				a := udp(mac(2), "10.0.0.12").frame(t)
				b := packet{src: mac(5), dst: mac(1), from: netip.AddrFrom4([4]byte{10, 0, 0, byte(100 + i%50)}), to: addr("10.0.0.11"), payload: 9}.frame(t)
				if out := w.Outbound(now, s.p[1], []*ports.Frame{a}); len(out) != 1 || out[0].Drop != 0 {
					t.Errorf("worker %d: %v", n, out[0].Drop)
					return
				}
				w.Outbound(now, p5, []*ports.Frame{b})
			}
		})
	}
	for i := range 200 {
		r := &LookupRecord{VSID: 5001, CA: netip.AddrFrom4([4]byte{10, 0, 0, byte(200 + i%20)}), MAC: mac(99), PA: netip.AddrFrom4([4]byte{192, 0, 2, byte(10 + i%50)})}
		require.NoError(t, e.Apply([]Change{{Record: r}}))
		p, err := e.AddPort(PortConfig{VSID: 5001, MAC: mac(77)})
		require.NoError(t, err)
		e.Expire(time.Hour)
		require.NotEmpty(t, slices.Collect(e.Records()))
		if i%50 == 0 {
			require.NoError(t, e.Replace(s.policy))
			c := e.Config()
			require.NoError(t, e.SetConfig(&c))
		}
		require.NoError(t, e.Apply([]Change{{Record: r, Delete: true}}))
		p.Close()
	}
	close(stop)
	wg.Wait()
}
