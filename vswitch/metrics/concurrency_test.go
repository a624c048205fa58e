package metrics_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vswitch"
	"github.com/hvswitch/hvswitch/vswitch/acl"
)

// Whatever changes while it is collected, no series is there twice and nothing races.
func TestCollectingWhileEverythingChanges(t *testing.T) {
	l := newLab(t, nil)
	lab := l.newSwitch("lab", nil)
	vm := l.guest("vm", vswitch.VNICConfig{Switch: "lab", ACL: webPolicy(t)})
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	var all sync.WaitGroup
	repeat := func(do func(i int) error) {
		all.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				if !assert.NoError(t, do(i)) {
					return
				}
			}
		})
	}
	for range 2 {
		repeat(func(int) error {
			_, err := l.reg.Gather()
			return err
		})
	}
	repeat(func(int) error { // a vNIC and a NIC in turn
		v, err := l.host.NewVNIC("either", newPipe(), nil)
		if err != nil {
			return err
		}
		err = v.Close()
		n, e := l.host.AddNIC("either", newPipe())
		if e != nil {
			return e
		}
		return errors.Join(err, n.Close())
	})
	repeat(func(int) error {
		s, err := l.host.NewSwitch("other", nil)
		if err != nil {
			return err
		}
		return s.Close()
	})
	policies := []*acl.Policy{webPolicy(t), nil, compile(t, acl.Config{})}
	repeat(func(i int) error {
		cfg := vm.vnic.Config()
		cfg.ACL = policies[i%len(policies)]
		cfg.Switch = []string{"lab", "other"}[i/8%2]
		return vm.vnic.SetConfig(cfg)
	})
	datagram := vm.datagram(80)
	repeat(func(int) error {
		vm.end.WriteFrame(ctx, datagram) // waits while the vNIC is disconnected
		return nil
	})
	repeat(func(int) error {
		lab.Addresses()
		return nil
	})
	all.Wait()
	received, _ := l.gatherNow().value("hvswitch_port_receive_frames_total", "port", "vm")
	require.Positive(t, received)
}

func newPipe() *ports.PipeEnd {
	a, _, err := ports.Pipe(nil)
	if err != nil {
		panic(err)
	}
	return a
}
