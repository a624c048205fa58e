package team_test

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/team"
	"github.com/hvswitch/hvswitch/vlan"
	"github.com/hvswitch/hvswitch/vswitch"
)

// lan is two hosts, a and b, each with a switch whose uplink is a team with two cables, and physical
// switches with stations of their own. Teams that are switch independent have their cables in two physical
// switches, which a trunk joins. The others have them in one, whose ports are teams too.
//
// Frames have a flow and a number. Nobody may get one twice, or one in front of another of its flow, or
// one of another VLAN.
type lan struct {
	*testing.T
	rnd      *rand.Rand
	hosts    []*vswitch.Host
	teams    map[string]*team.Team // by host
	cables   []*cable
	stations []*labStation
	flows    []*flow
	batch    *ports.Batch
	renamed  int // frames that arrived from another address than that of their sender
}

// labStation is a guest of a host, or a machine at a physical switch.
type labStation struct {
	name   string
	end    *ports.PipeEnd
	mac    ports.MAC
	vid    uint16
	silent bool // never sends
	last   []int
	got    []int
}

// flow is frames from one station to another, to all, or to nobody.
type flow struct {
	id       int
	from, to *labStation // to is nil when it is to all or to nobody
	group    bool
	frame    *ports.Frame
	sent     int
}

// cable delays what is on it by some rounds.
type cable struct {
	host string // of the team that has it; empty when it is the trunk
	ends [2]*ports.PipeEnd
	wire [2]*ports.PipeEnd
	late [2]int
	up   bool
	seen time.Time // when the ends notice that it has been pulled
}

const (
	lanRound = 100 * time.Microsecond
	lanLag   = 3 // rounds that a cable may hold a frame back
	lanDepth = 1024
	lanBurst = 128 // frames sent in a round

	// lanNotice is after how long the ends of a cable see that it has been pulled: enough for what has left
	// it to arrive.
	lanNotice = time.Millisecond
)

func newLAN(t *testing.T, m team.Mode, d team.Distribution) *lan {
	l := &lan{T: t, rnd: rand.New(rand.NewPCG(uint64(m), uint64(d))), teams: map[string]*team.Team{}, batch: ports.NewBatch(64)}
	cfg := team.Config{Mode: m, Distribution: d, Short: m == team.LACP, UpDelay: 10 * time.Millisecond}
	var all vlan.Set
	all.Add(10)
	all.Add(20)
	trunk := vlan.Trunk(1, all, nil)
	physical := []*vswitch.Host{l.newHost("p0")}
	if m == team.SwitchIndependent {
		physical = append(physical, l.newHost("p1"))
	}
	for _, p := range physical {
		_, err := p.NewSwitch("lan", nil)
		require.NoError(t, err)
	}
	port := func(p *vswitch.Host, name string, b ports.Backend) {
		_, err := p.NewVNIC(name, b, &vswitch.VNICConfig{Switch: "lan", VLAN: trunk, AllowSpoofing: true})
		require.NoError(t, err)
	}
	if m == team.SwitchIndependent {
		c := l.newCable("")
		for i, p := range physical {
			port(p, "trunk", c.ends[i])
		}
	}
	for i, name := range []string{"a", "b"} {
		var near, far []team.Member
		for k := range 2 {
			c := l.newCable(name)
			near = append(near, team.Member{Backend: c.ends[0], MAC: ports.MAC{2, 0, 0, 0, 0x0a, byte(16*i + k)}})
			far = append(far, team.Member{Backend: c.ends[1], MAC: ports.MAC{2, 0, 0, 0, 0x0b, byte(16*i + k)}})
			if m == team.SwitchIndependent {
				port(physical[k], name, c.ends[1])
			}
		}
		tm, err := team.New(near, &cfg)
		require.NoError(t, err)
		l.teams[name] = tm
		if m != team.SwitchIndependent {
			other, err := team.New(far, &cfg)
			require.NoError(t, err)
			port(physical[0], name, other)
		}
		h := l.newHost(name)
		_, err = h.AddNIC("team", tm)
		require.NoError(t, err)
		_, err = h.NewSwitch("lan", &vswitch.SwitchConfig{Type: vswitch.External, Uplink: "team"})
		require.NoError(t, err)
		for n := range 6 {
			l.newStation(h, fmt.Sprint(name, n), n >= 4)
		}
	}
	for i, p := range physical {
		for n := range 4 / len(physical) {
			l.newStation(p, fmt.Sprint("p", i, n), false)
		}
	}
	return l
}

func (l *lan) newHost(name string) *vswitch.Host {
	h, err := vswitch.NewHost(&vswitch.HostConfig{Name: name, Workers: 2})
	require.NoError(l, err)
	l.hosts = append(l.hosts, h)
	l.Cleanup(func() { require.NoError(l, h.Close()) })
	return h
}

func (l *lan) pipe() (a, b *ports.PipeEnd) {
	a, b, err := ports.Pipe(&ports.PipeConfig{Depth: lanDepth, Speed: 1e9})
	require.NoError(l, err)
	return a, b
}

func (l *lan) newCable(host string) *cable {
	c := &cable{host: host, up: true}
	for i := range c.ends {
		c.ends[i], c.wire[i] = l.pipe()
	}
	l.cables = append(l.cables, c)
	return c
}

func (l *lan) newStation(h *vswitch.Host, name string, silent bool) {
	n := len(l.stations)
	s := &labStation{name: name, vid: uint16(10 + 10*(n%2)), mac: ports.MAC{2, 0, 0, 0, 0x0c, byte(n)}, silent: silent}
	a, b := l.pipe()
	s.end = b
	_, err := h.NewVNIC(name, a, &vswitch.VNICConfig{Switch: "lan", VLAN: vlan.Access(s.vid), MAC: s.mac})
	require.NoError(l, err)
	l.stations = append(l.stations, s)
}

// newFlow makes a flow of frames of a length. It is to nobody when to is nil, and to all with group.
func (l *lan) newFlow(from, to *labStation, group bool, n int) *flow {
	f := &flow{id: len(l.flows), from: from, to: to, group: group}
	dst := ports.MAC{2, 0, 0, 0, 0x0d, 1}
	switch {
	case group:
		dst = ports.Broadcast
	case to != nil:
		dst = to.mac
	}
	f.frame = numbered(udpFrame(from.mac, dst, f.id, n), f.id, 0)
	l.flows = append(l.flows, f)
	return f
}

// send sends a frame of each of some flows, which must not be the same.
func (l *lan) send(flows []*flow) {
	slices.SortFunc(flows, func(a, b *flow) int {
		return cmp.Or(cmp.Compare(a.from.mac[5], b.from.mac[5]), cmp.Compare(a.id, b.id))
	})
	flows = slices.Compact(flows)
	for len(flows) > 0 {
		from := flows[0].from
		var burst []*ports.Frame
		for len(flows) > 0 && flows[0].from == from {
			f := flows[0]
			f.sent++
			burst = append(burst, numbered(f.frame, f.id, f.sent))
			flows = flows[1:]
		}
		n, err := from.end.Tx(0).Send(burst)
		require.NoError(l, err)
		require.Equal(l, len(burst), n)
	}
}

// round lets the switches do what there is to do, and cables and stations take what there is.
func (l *lan) round(d time.Duration) {
	time.Sleep(d)
	for _, i := range l.rnd.Perm(len(l.cables)) {
		c := l.cables[i]
		if !c.up && !time.Now().Before(c.seen) {
			c.ends[0].SetLink(false)
			c.ends[1].SetLink(false)
		}
		for way := range 2 {
			if c.late[way]++; c.late[way] >= lanLag || l.rnd.IntN(2) == 0 {
				c.late[way] = 0
				l.carry(c, way)
			}
		}
	}
	synctest.Wait()
	for _, s := range l.stations {
		l.receive(s)
	}
}

// carry takes what is at one end of a cable to the other, unless it has been pulled.
func (l *lan) carry(c *cable, way int) {
	for {
		l.batch.Reset()
		if err := c.wire[way].Rx(0).Recv(l.batch); err != nil {
			require.ErrorIs(l, err, ports.ErrClosed)
			return
		}
		n := l.batch.Len()
		if c.up {
			k, err := c.wire[1-way].Tx(0).Send(l.batch.Frames())
			require.NoError(l, err)
			require.Equal(l, n, k, "a cable is full")
		}
		l.batch.Reset()
		c.wire[way].Rx(0).Release()
		if n == 0 {
			return
		}
	}
}

func (l *lan) receive(s *labStation) {
	for {
		l.batch.Reset()
		require.NoError(l, s.end.Rx(0).Recv(l.batch))
		n := l.batch.Len()
		for _, p := range l.batch.Frames() {
			if h := p.Head(); binary.BigEndian.Uint16(h[12:]) == 0x0800 { // and no announcement
				f := l.flows[flowOf(p)]
				l.arrived(s, f, numberOf(p))
				if ports.MAC(h[6:12]) != f.from.mac {
					l.renamed++
				}
			}
		}
		l.batch.Reset()
		s.end.Rx(0).Release()
		if n == 0 {
			return
		}
	}
}

func (l *lan) arrived(s *labStation, f *flow, number int) {
	for len(s.last) <= f.id {
		s.last, s.got = append(s.last, 0), append(s.got, 0)
	}
	switch {
	case s == f.from:
		l.Fatalf("frame %d of flow %d came back to %s", number, f.id, s.name)
	case s.vid != f.from.vid:
		l.Fatalf("frame %d of flow %d of VLAN %d came to %s", number, f.id, f.from.vid, s.name)
	case number <= s.last[f.id]:
		l.Fatalf("frame %d of flow %d came to %s after frame %d", number, f.id, s.name, s.last[f.id])
	}
	s.last[f.id] = number
	s.got[f.id]++
}

// count returns how many frames should have arrived up to now, and how many of them did not.
func (l *lan) count() (of, lost int) {
	for _, f := range l.flows {
		for _, s := range l.stations {
			if s == f.from || s.vid != f.from.vid || !f.group && s != f.to {
				continue
			}
			of += f.sent
			lost += f.sent
			if f.id < len(s.got) {
				lost -= s.got[f.id]
			}
		}
	}
	return of, lost
}

// moves returns how often physical switches have seen an address at another port than before.
func (l *lan) moves() (n uint64) {
	for _, h := range l.hosts {
		if h.Name()[0] == 'p' {
			for _, a := range h.Switch("lan").Addresses() {
				n += a.Moves
			}
		}
	}
	return n
}

// settle lets everything arrive.
func (l *lan) settle() {
	for range 40 {
		l.round(lanRound)
	}
}

// pass lets time pass in which nobody sends.
func (l *lan) pass(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		l.round(5 * time.Millisecond)
	}
}

// pull pulls a cable; what is on it is lost.
func (l *lan) pull(c *cable) { c.up, c.seen = false, time.Now().Add(lanNotice) }

func (l *lan) plug(c *cable) {
	c.up = true
	for i := range c.ends {
		c.ends[i].SetLink(true)
	}
}

// A million frames between guests of two hosts and stations of the LAN: first nothing happens, then cables
// are pulled and plugged in again, then nothing happens any more.
func TestTeamsAsUplinks(t *testing.T) {
	for _, m := range []team.Mode{team.SwitchIndependent, team.Static, team.LACP} {
		for _, d := range []team.Distribution{team.HyperVPort, team.AddressHash, team.Dynamic} {
			t.Run(fmt.Sprintf("%v, %v", m, d), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) { onLAN(t, m, d) })
			})
		}
	}
}

func onLAN(t *testing.T, m team.Mode, d team.Distribution) {
	l := newLAN(t, m, d)
	l.pass(5 * time.Second)
	var often, rare []*flow
	for _, from := range l.stations {
		if from.silent {
			continue
		}
		for _, to := range l.stations {
			switch {
			case to == from || to.vid != from.vid:
			case to.silent:
				rare = append(rare, l.newFlow(from, to, false, 60))
			default:
				for n := range 8 {
					often = append(often, l.newFlow(from, to, false, 60+180*n))
				}
			}
		}
		rare = append(rare, l.newFlow(from, nil, false, 60), l.newFlow(from, nil, true, 60))
	}
	l.send(slices.Clone(rare)) // so that the switches know who is where
	l.settle()

	quarter := million / 4
	if m != team.SwitchIndependent {
		quarter /= 4 // a bare team has had a million
	}
	sent := 0
	burst := make([]*flow, 0, lanBurst+1)
	some := func() {
		burst = burst[:0]
		for range lanBurst {
			// Some flows are elephants, so that there is something to balance.
			burst = append(burst, often[min(l.rnd.IntN(len(often)), l.rnd.IntN(len(often)))])
		}
		if l.rnd.IntN(4) == 0 {
			burst = append(burst, rare[l.rnd.IntN(len(rare))])
		}
		sent += len(burst)
		l.send(burst)
	}
	busy := func(frames int) {
		for until := sent + frames; sent < until; {
			some()
			l.round(lanRound)
		}
		l.settle()
	}
	all := func(when string) {
		for _, tm := range l.teams {
			require.Len(t, inUse(tm), 2, when)
		}
	}
	all("at first")
	busy(quarter)
	_, lost := l.count()
	require.Zero(t, lost, "nothing happened")
	require.Zero(t, l.moves(), "nothing happened")

	pulled := slices.DeleteFunc(slices.Clone(l.cables), func(c *cable) bool { return c.host == "" })
	var out *cable
	const changes = 12
	for n := range changes {
		if out != nil {
			l.plug(out)
			out = nil
		} else {
			out = pulled[n/2%len(pulled)]
			l.pull(out)
		}
		busy(2 * quarter / changes)
		// Switches do not believe in stations that move several times a second, and LACP takes its time.
		for range 20 {
			some()
			l.settle()
			time.Sleep(100 * time.Millisecond)
		}
	}
	require.Nil(t, out)
	l.pass(5 * time.Second)
	all("in the end")
	of, before := l.count()
	busy(quarter)
	_, lost = l.count()
	require.Equal(t, before, lost, "nothing happened any more")

	var failovers, moved, announced uint64
	var drops [16]uint64
	for _, tm := range l.teams {
		st := tm.Stats()
		failovers += st.Failovers
		moved += st.Moved
		announced += st.Announced
		for _, s := range st.Members {
			require.NotZero(t, s.TxFrames)
			require.NotZero(t, s.RxFrames)
			for r, n := range s.Drops {
				drops[r] += n
			}
		}
	}
	t.Logf("%d frames sent; up to the last quarter %d of %d lost in %d changes of cables, %d failovers; %d buckets moved, %d announcements, %d copies and %d reflections dropped",
		sent, before, of, changes, failovers, moved, announced, drops[team.ElsewhereToo], drops[team.Reflected])
	rewrites := m == team.SwitchIndependent && d != team.HyperVPort
	require.Equal(t, rewrites, l.renamed > 0, "%d frames came from the address of a member", l.renamed)
	require.NotZero(t, failovers)
	require.Less(t, before, changes*lanBurst*20, "what was sent in two milliseconds around each change")
	if m == team.SwitchIndependent {
		require.NotZero(t, announced)
		require.NotZero(t, drops[team.ElsewhereToo])
		require.NotZero(t, drops[team.Reflected])
	}
	if d == team.Dynamic {
		require.NotZero(t, moved)
	}
}
