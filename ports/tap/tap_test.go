package tap

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/hvswitch/hvswitch/ports"
)

func TestConfigRefuses(t *testing.T) {
	for _, c := range []struct {
		cfg  Config
		want string
	}{
		{Config{Name: "sixteen-letters!"}, `tap "sixteen-letters!": the name is longer than 15 bytes`},
		{Config{Name: "a/b"}, `tap "a/b": the name is not one that an interface can have`},
		{Config{Name: "a b"}, `tap "a b": the name is not one that an interface can have`},
		{Config{Name: "a:1"}, `tap "a:1": the name is not one that an interface can have`},
		{Config{Name: "a\x00b"}, `tap "a\x00b": the name is not one that an interface can have`},
		{Config{Name: ".."}, `tap "..": the name is not one that an interface can have`},
		{Config{Name: "vm%s"}, `tap "vm%s": the name has a % that does not belong to a single %d`},
		{Config{Name: "%d%d"}, `tap "%d%d": the name has a % that does not belong to a single %d`},
		{Config{Name: "vm1", MTU: 67}, `tap "vm1": MTU 67 is out of 68–65521`},
		{Config{Name: "vm1", MTU: 65522}, `tap "vm1": MTU 65522 is out of 68–65521`},
		{Config{Name: "vm1", Queues: 257}, `tap "vm1": 257 queues are out of 1–256`},
		{Config{Name: "vm1", Queues: -1}, `tap "vm1": -1 queues are out of 1–256`},
		{Config{Name: "vm1", MAC: ports.Broadcast}, `tap "vm1": MAC ff:ff:ff:ff:ff:ff is not that of a station`},
	} {
		p, err := Open(&c.cfg)
		assert.EqualError(t, err, c.want)
		assert.Nil(t, p)
	}
}

func ExampleOpen() {
	port, err := Open(&Config{Name: "vm1", MTU: 9000})
	if err != nil {
		return // such as: tap "vm1": open /dev/net/tun: permission denied
	}
	defer port.Close()

	// One end of a relay: what the kernel sends on vm1 goes back to it.
	batch := ports.NewBatch(32)
	rx, tx := port.Rx(0), port.Tx(0)
	for range 100 {
		batch.Reset()
		rx.Release()
		if err := rx.Recv(batch); err != nil {
			return
		}
		tx.Send(batch.Frames()) // what does not go is dropped
	}
}
