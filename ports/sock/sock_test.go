package sock

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
)

func TestConfigRefuses(t *testing.T) {
	long := strings.Repeat("x", maxPath+1)
	for says, open := range map[string]func() (*Socket, error){
		`sock "vm1": MTU 67 is out of 68–65531`:                                 func() (*Socket, error) { return ListenStream("vm1", &Config{MTU: 67}) },
		`sock "vm1": MTU 65532 is out of 68–65531`:                              func() (*Socket, error) { return DialStream("vm1", &Config{MTU: 65532}) },
		`sock "a": MTU -1 is out of 68–65531`:                                   func() (*Socket, error) { return Dgram("vm1", "b", &Config{Name: "a", MTU: -1}) },
		`sock "": SendBuffer 4095 is out of 4096–1073741823`:                    func() (*Socket, error) { return FromConn(nil, &Config{SendBuffer: 4095}) },
		`sock "vm1": SendBuffer 1073741824 is out of 4096–1073741823`:           func() (*Socket, error) { return DialStream("vm1", &Config{SendBuffer: 1 << 30}) },
		`sock "": the path is empty`:                                            func() (*Socket, error) { return ListenStream("", nil) },
		`sock "b": the path is empty`:                                           func() (*Socket, error) { return Dgram("", "b", nil) },
		`sock "` + long + `": path "` + long + `" has 108 bytes, more than 107`: func() (*Socket, error) { return DialStream(long, nil) },
		`sock "a": local and remote are both "a"`:                               func() (*Socket, error) { return Dgram("a", "a", nil) },
		`sock "a": path "b\x00" has a zero byte`:                                func() (*Socket, error) { return Dgram("a", "b\x00", nil) },
	} {
		s, err := open()
		require.EqualError(t, err, says)
		require.Nil(t, s)
	}
}

func ExampleDgram() {
	// qemu-system-x86_64 -netdev dgram,id=n0,local.type=unix,local.path=/run/vm1.sock,remote.type=unix,remote.path=/run/switch1.sock …
	port, err := Dgram("/run/switch1.sock", "/run/vm1.sock", &Config{MTU: 9000})
	if err != nil {
		return // such as: sock "/run/switch1.sock": somebody has the socket open: address already in use
	}
	defer port.Close()

	// One end of a relay: what the guest sends goes back to it.
	batch := ports.NewBatch(32)
	for range 100 {
		if err := port.Rx(0).Recv(batch); err != nil {
			return
		}
		port.Tx(0).Send(batch.Frames()) // what does not go is dropped
		batch.Reset()
		port.Rx(0).Release()
	}
}
