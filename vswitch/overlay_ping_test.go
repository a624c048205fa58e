package vswitch_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vswitch"
	"github.com/hvswitch/hvswitch/vswitch/acl"
)

func TestPingOfProviderAddresses(t *testing.T) {
	for _, vid := range []uint16{0, 9} {
		inBubble(t, func(t *testing.T) {
			c := newCloudOn(t, ports.PipeConfig{}, vid)
			for i, n := range c.nodes {
				took, err := n.sw().PingPA(t.Context(), c.nodes[1-i].pa)
				require.NoError(t, err)
				require.Less(t, took, time.Second)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			_, err := c.nodes[0].sw().PingPA(ctx, paOf(77))
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.ErrorContains(t, err, `switch "lab": ping of provider address 192.0.2.77: next hop not resolved`)
			require.NoError(t, c.nodes[1].sw().Close())
			ctx, cancel = context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			_, err = c.nodes[0].sw().PingPA(ctx, paOf(2))
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.ErrorContains(t, err, "no answer")
			for pa, says := range map[string]string{"192.0.2.1": "to its own source", "198.51.100.1": "no provider address"} {
				_, err = c.nodes[0].sw().PingPA(t.Context(), addr(pa))
				require.ErrorIs(t, err, vswitch.ErrInvalid)
				require.ErrorContains(t, err, says)
			}
			c.nodes[0].reconfigure(func(c *vswitch.SwitchConfig) { c.Overlay = nil })
			_, err = c.nodes[0].sw().PingPA(t.Context(), paOf(2))
			require.ErrorContains(t, err, "the switch has no Overlay")
		})
	}
}

// answers is a guest that answers echo requests until the test ends, and counts what else it gets.
func (v *member) answers(ctx context.Context) {
	buf := make([]byte, 2048)
	for {
		n, err := v.end.ReadFrame(ctx, buf)
		if err != nil {
			return
		}
		if b := buf[:n]; n >= 42 && b[23] == 1 && b[34] == 8 {
			reply := append(append([]byte{}, b[6:12]...), b[:6]...)
			reply = append(reply, b[12:26]...)
			reply = append(append(reply, b[30:34]...), b[26:30]...)
			reply = append(append(reply, 0), b[35:]...)
			reply[36], reply[37] = 0, 0
			sum := ^onesSum(0, reply[34:])
			reply[36], reply[37] = byte(sum>>8), byte(sum)
			_ = v.end.WriteFrame(ctx, reply)
		}
	}
}

func TestPingOfCustomerAddresses(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newCloud(t)
		c.subnet(red, 5001, "10.0.0.0/24")
		c.subnet(red, 5002, "10.0.1.0/24")
		a := c.vm(0, "a", 5001, "10.0.0.11")
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		for _, v := range []*member{c.vm(0, "near", 5001, "10.0.0.12"), c.vm(1, "far", 5001, "10.0.0.13"), c.vm(1, "routed", 5002, "10.0.1.14")} {
			go v.answers(ctx)
		}
		c.vm(1, "mute", 5001, "10.0.0.15")
		c.record(5001, stranger(9), addr("10.0.0.16"), 7)
		for _, to := range []string{"10.0.0.12", "10.0.0.13", "10.0.1.14", "10.0.0.1", "10.0.1.1"} {
			took, err := a.vnic.PingCA(t.Context(), addr(to))
			require.NoError(t, err, to)
			require.Less(t, took, time.Second)
			require.Empty(t, a.received(), "the guest sees nothing")
		}
		for to, says := range map[string]string{
			"10.0.0.15":  `vNIC "a": ping of customer address 10.0.0.15: no answer`,
			"10.0.0.16":  "next hop not resolved",
			"10.0.0.77":  "no lookup record",
			"172.16.0.1": "no customer route",
			"fd00::1":    "forged source",
		} {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			_, err := a.vnic.PingCA(ctx, addr(to))
			require.ErrorContains(t, err, says)
			cancel()
		}

		// What the policy of the vNIC refuses does not answer.
		for _, d := range []acl.Direction{acl.Out, acl.In} {
			p, err := acl.Compile(&acl.Config{Extended: []acl.ExtendedRule{{Weight: 1, Direction: d, Action: acl.Deny, Protocol: acl.ICMP}}})
			require.NoError(t, err)
			a.reconfigure(func(c *vswitch.VNICConfig) { c.ACL = p })
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			_, err = a.vnic.PingCA(ctx, addr("10.0.0.13"))
			cancel()
			if d == acl.Out {
				require.ErrorContains(t, err, "dropped: denied by ACL, outbound")
			} else {
				require.ErrorContains(t, err, "no answer")
				require.NotZero(t, a.drops()[vswitch.DropACLIn])
			}
			require.Empty(t, a.received())
		}
		a.reconfigure(func(c *vswitch.VNICConfig) { c.ACL = nil })

		// One at a time; and it ends when the vNIC goes.
		failed := make(chan error)
		go func() {
			_, err := a.vnic.PingCA(t.Context(), addr("10.0.0.15"))
			failed <- err
		}()
		c.nodes[0].settle()
		_, err := a.vnic.PingCA(t.Context(), addr("10.0.0.12"))
		require.ErrorIs(t, err, vswitch.ErrInUse)
		a.reconfigure(func(c *vswitch.VNICConfig) { c.VSID = 0 })
		require.ErrorIs(t, <-failed, vswitch.ErrClosed)
		_, err = a.vnic.PingCA(t.Context(), addr("10.0.0.12"))
		require.ErrorContains(t, err, "it is in no virtual subnet")
	})
}
