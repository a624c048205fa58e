package vswitch

import (
	"fmt"

	"github.com/hvswitch/hvswitch/qos"
)

// Bandwidth is what a vNIC gets of its uplink at least, and sends at most. Rates are in bit/s of an Ethernet wire,
// preamble and interpacket gap included (see qos.WireBytes), from qos.LowestRate to qos.HighestRate. The zero
// Bandwidth is neither.
type Bandwidth struct {
	// MinWeight or MinRate is the minimum, as the QoS of the switch has it: a weight of 1–100, or a rate. It
	// binds while more is to be sent by the uplink than that carries. 0 is none.
	MinWeight int
	MinRate   uint64

	// MaxRate bounds all that the vNIC sends. When it has sent as much, its frames are left where they
	// are, so a guest waits and loses nothing unless its backend does not wait. 0 is no bound.
	MaxRate uint64

	// Burst is what a vNIC that was below its maximum may send at once, in bytes, at most qos.MaxBurst; 0
	// means what MaxRate lets through in 5 ms. It belongs to MaxRate.
	Burst int
}

// QoSConfig says how the uplink of an external switch divides its bandwidth. Frames that need not wait are sent at
// once; the others are copied, and wait for their turn. All leave by the first transmit queue of the NIC.
type QoSConfig struct {
	// Mode is that of all minimums: by weight, or absolute.
	Mode qos.Mode

	// LinkRate is what the uplink carries, in bit/s. 0 means the speed that its NIC reports; if that
	// is not known, frames wait when the NIC takes no more. qos.Absolute needs to know it.
	LinkRate uint64

	// Default is that of all ports without a minimum together.
	Default Bandwidth

	// QueueBytes and QueueFrames bound what waits of each vNIC with a minimum, and of all others together:
	// at most 1 GiB and 1,048,576 frames; defaults 1 MiB and 1,024. When they are reached, frames of the
	// flow that has most are dropped.
	QueueBytes, QueueFrames int
}

// class returns the class of bandwidth b in a scheduler.
func (c *QoSConfig) class(name string, b Bandwidth) qos.ClassConfig {
	return qos.ClassConfig{
		Name: name, MinWeight: b.MinWeight, MinRate: b.MinRate,
		QueueBytes: c.QueueBytes, QueueFrames: c.QueueFrames,
	}
}

func (c *QoSConfig) rest() qos.ClassConfig {
	r := c.class("default", c.Default)
	r.MaxRate, r.Burst = c.Default.MaxRate, c.Default.Burst
	return r
}

// hasMinimum reports whether b asks the uplink for something.
func (b Bandwidth) hasMinimum() bool { return b.MinWeight != 0 || b.MinRate != 0 }

// check says what is wrong with the bandwidth of a vNIC, whatever switch it is on.
func (b Bandwidth) check() error {
	mode := qos.Weight
	if b.MinRate != 0 {
		mode = qos.Absolute
	}
	if b.MinRate != 0 && b.MinWeight != 0 {
		return fmt.Errorf("bandwidth: MinWeight %d and MinRate %d: only one of them is possible: %w", b.MinWeight, b.MinRate, ErrInvalid)
	}
	cfg := qos.Config{Mode: mode, LinkRate: qos.HighestRate}
	cfg.Default = qos.ClassConfig{Name: "vNIC", MinWeight: b.MinWeight, MinRate: b.MinRate, MaxRate: b.MaxRate, Burst: b.Burst}
	if _, err := qos.New[struct{}](&cfg, nil); err != nil {
		return fmt.Errorf("bandwidth: %w: %w", err, ErrInvalid)
	}
	return nil
}

// ClassStats is how a class of the uplink does: a vNIC with a minimum, or "default", which is all other ports.
type ClassStats struct {
	Name string
	qos.Stats
}
