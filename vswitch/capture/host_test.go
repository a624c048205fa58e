package capture

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vswitch"
)

var _ Source = (*vswitch.Host)(nil)

// What two VMs say to each other on a switch, with what the switch does not let pass.
func TestCaptureOfAHost(t *testing.T) {
	host, err := vswitch.NewHost(nil)
	require.NoError(t, err)
	defer host.Close()
	_, err = host.NewSwitch("lab", nil)
	require.NoError(t, err)
	var file bytes.Buffer
	c, err := New(&file, nil)
	require.NoError(t, err)
	stop, err := host.Observe("capture", c)
	require.NoError(t, err)

	plug := func(name string) (*ports.PipeEnd, ports.MAC) {
		vm, nic, err := ports.Pipe(nil)
		require.NoError(t, err)
		v, err := host.NewVNIC(name, nic, &vswitch.VNICConfig{Switch: "lab"})
		require.NoError(t, err)
		return vm, v.MAC()
	}
	alice, aliceMAC := plug("alice")
	bob, bobMAC := plug("bob")
	frame := make([]byte, 60)
	copy(frame, bobMAC[:])
	copy(frame[6:], aliceMAC[:])
	send := func(b []byte) { require.NoError(t, alice.WriteFrame(t.Context(), b)) }
	receive := func() {
		_, err := bob.ReadFrame(t.Context(), make([]byte, 2000))
		require.NoError(t, err)
	}
	forged := bytes.Clone(frame)
	forged[6] ^= 4
	send(frame)
	receive()
	send(forged)
	send(frame[:9])
	send(frame)
	receive()
	stop()
	require.NoError(t, c.Close())

	var story []string
	for _, p := range read(t, file.Bytes()).packets {
		story = append(story, p.port+" "+p.comment)
	}
	require.ElementsMatch(t, []string{
		"lab/alice ", "lab/bob ", "lab/alice dropped: spoofed source", "lab/alice dropped: runt", "lab/alice ", "lab/bob ",
	}, story)
}
