package qos

import (
	"fmt"
	"strconv"
)

// Mode says how the minimum bandwidth of classes is given.
type Mode uint8

// Modes.
const (
	// Weight: in parts of 100, or of the sum of all weights if that is more.
	Weight Mode = iota

	// Absolute: in bit/s. The sum is at most the rate of the link.
	Absolute
)

// String returns "weight" or "absolute".
func (m Mode) String() string {
	switch m {
	case Weight:
		return "weight"
	case Absolute:
		return "absolute"
	}
	return "mode " + strconv.Itoa(int(m))
}

const (
	// LowestRate and HighestRate bound every rate, in bit/s: 1 kbit/s to 10 Tbit/s.
	LowestRate  = 1_000
	HighestRate = 10_000_000_000_000

	maxWeight = 100

	defaultQueueBytes  = 1 << 20
	defaultQueueFrames = 1024
	maxQueueBytes      = 1 << 30
	maxQueueFrames     = 1 << 20
)

// Config configures a Scheduler. A nil *Config and zero fields mean the defaults.
type Config struct {
	// Mode is that of all classes; default Weight.
	Mode Mode

	// LinkRate is what the uplink carries, in bit/s, LowestRate–HighestRate. 0 means that the scheduler
	// does not pace: each call of Dequeue is for what the uplink has room for. Absolute needs a rate.
	LinkRate uint64

	// Default is the class of frames that are of no other.
	Default ClassConfig
}

// ClassConfig configures a class, such as a vNIC. The zero ClassConfig has neither minimum nor maximum.
type ClassConfig struct {
	// Name is for errors.
	Name string

	// MinWeight is the minimum bandwidth in mode Weight, 0–100; 0 is none.
	MinWeight int

	// MinRate is the minimum bandwidth in mode Absolute, in bit/s, LowestRate–HighestRate and not above
	// MaxRate of the class; 0 is none.
	MinRate uint64

	// MaxRate is the maximum bandwidth in bit/s, LowestRate–HighestRate; 0 is none.
	MaxRate uint64

	// Burst is what a class that has been below its maximum may send at once, in bytes, at most
	// MaxBurst. 0 means what MaxRate lets through in 5 ms, which keeps the maximum within 1 % over
	// a second. It belongs to MaxRate.
	Burst int

	// QueueBytes and QueueFrames bound what is queued: at most 1 GiB and 1,048,576; defaults 1 MiB
	// and 1024. An empty queue takes a frame of any size.
	QueueBytes, QueueFrames int
}

// ConfigError says what is wrong with a Config or ClassConfig.
type ConfigError struct {
	Class  string // "" for Config
	Field  string // such as "MaxRate"
	Value  string
	Reason string
}

// Error returns, for example:
//
//	qos: class "vm3": MinWeight 101: is out of 0–100
func (e *ConfigError) Error() string {
	s := "qos: "
	if e.Class != "" {
		s += "class " + strconv.Quote(e.Class) + ": "
	}
	return s + e.Field + " " + e.Value + ": " + e.Reason
}

func checkRate(rate uint64) string {
	if rate != 0 && (rate < LowestRate || rate > HighestRate) {
		return fmt.Sprintf("is out of %d–%d bit/s", LowestRate, uint64(HighestRate))
	}
	return ""
}

func (c *Config) validate() error {
	wrong := func(field string, value any, reason string) error {
		return &ConfigError{Field: field, Value: fmt.Sprint(value), Reason: reason}
	}
	if c.Mode > Absolute {
		return wrong("Mode", uint8(c.Mode), "is not Weight or Absolute")
	}
	if reason := checkRate(c.LinkRate); reason != "" {
		return wrong("LinkRate", c.LinkRate, reason)
	}
	if c.Mode == Absolute && c.LinkRate == 0 {
		return wrong("LinkRate", c.LinkRate, "mode Absolute needs one")
	}
	return nil
}

// validate checks all but the sum of minimums.
func (c *ClassConfig) validate(m Mode) error {
	switch {
	case c.MinWeight < 0 || c.MinWeight > maxWeight:
		return c.wrong("MinWeight", c.MinWeight, fmt.Sprintf("is out of 0–%d", maxWeight))
	case c.MinWeight != 0 && m != Weight:
		return c.wrong("MinWeight", c.MinWeight, "the mode is Absolute")
	case c.MinRate != 0 && m != Absolute:
		return c.wrong("MinRate", c.MinRate, "the mode is Weight")
	case c.MaxRate != 0 && c.MinRate > c.MaxRate:
		return c.wrong("MinRate", c.MinRate, fmt.Sprintf("is above MaxRate %d", c.MaxRate))
	case c.Burst < 0 || c.Burst > MaxBurst:
		return c.wrong("Burst", c.Burst, fmt.Sprintf("is out of 0–%d", MaxBurst))
	case c.Burst != 0 && c.MaxRate == 0:
		return c.wrong("Burst", c.Burst, "there is no MaxRate")
	case c.QueueBytes < 0 || c.QueueBytes > maxQueueBytes:
		return c.wrong("QueueBytes", c.QueueBytes, fmt.Sprintf("is out of 0–%d", maxQueueBytes))
	case c.QueueFrames < 0 || c.QueueFrames > maxQueueFrames:
		return c.wrong("QueueFrames", c.QueueFrames, fmt.Sprintf("is out of 0–%d", maxQueueFrames))
	}
	if reason := checkRate(c.MinRate); reason != "" {
		return c.wrong("MinRate", c.MinRate, reason)
	}
	if reason := checkRate(c.MaxRate); reason != "" {
		return c.wrong("MaxRate", c.MaxRate, reason)
	}
	return nil
}

func (c *ClassConfig) wrong(field string, value any, reason string) error {
	return &ConfigError{Class: c.Name, Field: field, Value: fmt.Sprint(value), Reason: reason}
}

// minimum returns the guarantee in the unit of the mode.
func (c *ClassConfig) minimum() uint64 { return max(uint64(c.MinWeight), c.MinRate) }

// DefaultBurst returns the burst of a class with that maximum, in bit/s, that is not given another: what it lets through
// in 5 ms, in bytes.
func DefaultBurst(rate uint64) int { return burstFor(rate, burstParts) }

// burstFor returns what rate lets through in a time in which 1 s is one per parts, at least a byte.
func burstFor(rate, parts uint64) int { return int(min(max(rate/8/parts, 1), MaxBurst)) }

func orDefault(n, otherwise int) int {
	if n == 0 {
		return otherwise
	}
	return n
}
