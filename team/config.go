package team

import (
	"fmt"
	"reflect"
	"time"

	"github.com/hvswitch/hvswitch/ports"
)

// Mode says what the other end of the cables knows of the team.
type Mode uint8

// Modes.
const (
	// SwitchIndependent: nothing. The members may be on several switches.
	SwitchIndependent Mode = iota

	// Static: all members are on one switch, which is set up to aggregate them.
	Static

	// LACP: as Static, but agreed upon with IEEE 802.1AX.
	LACP
)

func (m Mode) String() string { return [...]string{"switch independent", "static", "LACP"}[m] }

// Distribution says which member a frame leaves by.
type Distribution uint8

// Distributions.
const (
	// Dynamic spreads flows as AddressHash does, moves them from members with much load to those
	// with little whenever they pause, and spreads what arrives by vNIC.
	Dynamic Distribution = iota

	// HyperVPort spreads vNICs, that is source MACs.
	HyperVPort

	// AddressHash spreads flows: by addresses and ports of TCP, UDP and SCTP, by IP addresses of
	// other packets and of fragments, by MACs of everything else.
	AddressHash
)

func (d Distribution) String() string {
	return [...]string{"dynamic", "Hyper-V port", "address hash"}[d]
}

// Speeds says what becomes of members that are not of the same speed. A member whose speed is not known
// is as fast as the others.
type Speeds uint8

// Policies.
const (
	// SameSpeed refuses a member with another speed than those in front of it. When its speed
	// changes later, it is not used.
	SameSpeed Speeds = iota

	// Weighted gives each member load in proportion to its speed.
	Weighted
)

// MaxMembers is how many members a team has at most.
const MaxMembers = 32

// Member is a backend that is or becomes part of a team. The team is the only one to use it until it has
// been removed.
type Member struct {
	// Name is unique in the team; default is that of Backend.Info, or a number.
	Name string

	Backend ports.Backend

	// MAC is the member's own address; default is that of Backend.Info. It is needed, and must
	// be unique, in mode SwitchIndependent with Dynamic or AddressHash.
	MAC ports.MAC

	// Priority is that of the LACP port, the lower the sooner it is used, 1–65535; 0 means 32768.
	Priority uint16
}

// Config describes a Team. A nil *Config means the defaults.
type Config struct {
	Name         string // for errors and Info
	Mode         Mode
	Distribution Distribution
	Speeds       Speeds

	// MAC is the team's address, which its members use in turn: always the primary. The default
	// is that of the first member.
	MAC ports.MAC

	// Standby names the member that is used only while another is not, as "" does none. Not in
	// mode Static, whose other end would use it.
	Standby string

	// FlowletGap is how long a flow must have paused before it may move between members that are
	// both well: longer than their delays differ, 10 µs – 1 s; default 1 ms.
	FlowletGap time.Duration

	// UpDelay is how long the link of a member must have been up before it is used while others
	// are, as a switch may not forward yet; up to 1 h. 0 means 200 ms, negative none.
	UpDelay time.Duration

	// SystemPriority, Passive and Short are those of the LACP system, see lacp.Config; in mode LACP
	// only.
	SystemPriority uint16
	Passive, Short bool

	pair bool // see Pair
}

const (
	defaultGap     = time.Millisecond
	defaultUpDelay = 200 * time.Millisecond
)

func (c *Config) setDefaults() {
	if c.FlowletGap == 0 {
		c.FlowletGap = defaultGap
	}
	switch {
	case c.UpDelay == 0:
		c.UpDelay = defaultUpDelay
	case c.UpDelay < 0:
		c.UpDelay = 0
	}
}

func (c *Config) check() error {
	switch {
	case c.Mode > LACP:
		return fmt.Errorf("team %q: Mode %d is out of 0–%d", c.Name, c.Mode, LACP)
	case c.Distribution > AddressHash:
		return fmt.Errorf("team %q: Distribution %d is out of 0–%d", c.Name, c.Distribution, AddressHash)
	case c.Speeds > Weighted:
		return fmt.Errorf("team %q: Speeds %d is out of 0–%d", c.Name, c.Speeds, Weighted)
	case !c.MAC.IsZero() && !c.MAC.IsUnicast():
		return fmt.Errorf("team %q: MAC %v is not that of a station", c.Name, c.MAC)
	case c.FlowletGap < 10*time.Microsecond || c.FlowletGap > time.Second:
		return fmt.Errorf("team %q: FlowletGap %v is out of 10µs–1s", c.Name, c.FlowletGap)
	case c.UpDelay > time.Hour:
		return fmt.Errorf("team %q: UpDelay %v is more than 1h", c.Name, c.UpDelay)
	case c.Mode != LACP && (c.SystemPriority != 0 || c.Passive || c.Short):
		return fmt.Errorf("team %q: SystemPriority, Passive and Short have no meaning in mode %v", c.Name, c.Mode)
	case c.Standby != "" && c.Mode == Static:
		return fmt.Errorf("team %q: Standby %q: the other end of a static team uses every member", c.Name, c.Standby)
	}
	return nil
}

// rewrites reports whether frames may leave with another source address than they came with.
func (c *Config) rewrites() bool {
	return c.Mode == SwitchIndependent && c.Distribution != HyperVPort
}

// sums reports whether the team has as many queues as all members together, rather than as the member
// with the fewest: where what arrives for a vNIC arrives at one member.
func (c *Config) sums() bool {
	return c.Mode == SwitchIndependent && c.Distribution != AddressHash && !c.pair
}

// checkMember checks a member against the team and those that it has already.
func (t *Team) checkMember(m *member) error {
	fail := func(field, format string, args ...any) error {
		return fmt.Errorf("team %q: member %q: %s %s", t.cfg.Name, m.name, field, fmt.Sprintf(format, args...))
	}
	for _, o := range t.members {
		switch {
		case o == nil:
		case o.name == m.name:
			return fail("Name", "is taken")
		case reflect.ValueOf(m.backend).Comparable() && o.backend == m.backend:
			return fail("Backend", "is that of member %q", o.name)
		case t.cfg.rewrites() && o.mac == m.mac:
			return fail("MAC", "%v is that of member %q", m.mac, o.name)
		}
	}
	if !m.mac.IsUnicast() && (t.cfg.rewrites() || !m.mac.IsZero()) {
		return fail("MAC", "%v is not that of a station", m.mac)
	}
	if t.cfg.Speeds == SameSpeed {
		if l := ports.LinkOf(m.backend); l.Up && !t.speedFits(m, l.Speed) {
			return fail("speed", "%d bit/s is not that of the others", l.Speed)
		}
	}
	return nil
}
