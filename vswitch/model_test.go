package vswitch_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/internal/refswitch"
	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vswitch"
)

// modelSeed is the seed of the next run of TestModel, so that -count=n makes n times as many
// different runs.
var modelSeed atomic.Uint64

// TestModel does the same things to the switch and to the reference model, and any difference in what
// they deliver, drop, learn, count or refuse is a bug in one of them. It tells the shortest story it
// finds that shows the difference.
//
// HVSWITCH_MODEL_SEED is the seed of the first run, HVSWITCH_MODEL_RUNS the number of runs.
func TestModel(t *testing.T) {
	seed, runs := modelEnv(t, "SEED", 1), modelEnv(t, "RUNS", 3000)
	if hurried() {
		runs = min(runs, 300)
	}
	seed += modelSeed.Add(runs) - runs
	for end := seed + runs; seed < end; seed++ {
		p := newPlan(seed)
		if err := p.run(t); err != nil {
			p, err = p.shrink(t, err)
			t.Fatalf("HVSWITCH_MODEL_SEED=%d HVSWITCH_MODEL_RUNS=1 go test -run TestModel ./vswitch\n%s\n%v", seed, p, err)
		}
	}
}

func modelEnv(t *testing.T, name string, value uint64) uint64 {
	if s := os.Getenv("HVSWITCH_MODEL_" + name); s != "" {
		var err error
		value, err = strconv.ParseUint(s, 10, 64)
		require.NoError(t, err)
	}
	return value
}

// plan is what is to happen in a run.
type plan struct {
	// coarse makes all happen at whole seconds, at which the switch has forgotten what has aged:
	// between them aged addresses may still take their place in the table.
	coarse bool

	// tight makes tables so small that addresses are evicted. Which one of several is the
	// switch's choice and the model goes by what has become of the table, so there may be but
	// one new source a batch.
	tight bool

	steps []step
}

// step is one thing that happens. It does nothing when it cannot happen, so that the steps of a plan
// can be left out one by one.
type step interface {
	do(*contest)
	String() string
}

func (p *plan) String() string {
	var b strings.Builder
	for i, s := range p.steps {
		fmt.Fprintf(&b, "%3d  %s\n", i+1, s)
	}
	return b.String()
}

// run returns the first difference.
func (p *plan) run(t *testing.T) (err error) {
	synctest.Test(t, func(t *testing.T) {
		c := newContest(t, p)
		defer c.host.Close()
		for i, s := range p.steps {
			s.do(c)
			c.compare()
			if len(c.faults) > 0 {
				err = fmt.Errorf("step %d: %w", i+1, errors.Join(c.faults...))
				return
			}
		}
	})
	return err
}

// shrink leaves out what is not needed for the run to fail.
func (p *plan) shrink(t *testing.T, err error) (*plan, error) {
	deadline := time.Now().Add(10 * time.Second)
	try := func(q plan) bool {
		if time.Now().After(deadline) {
			return false
		}
		e := q.run(t)
		if e != nil {
			p, err = &q, e
		}
		return e != nil
	}
	for size := len(p.steps) / 2; size > 0; size /= 2 {
		for i := 0; i+size <= len(p.steps); {
			q := *p
			q.steps = slices.Concat(p.steps[:i], p.steps[i+size:])
			if !try(q) {
				i += size
			}
		}
	}
	for i := range p.steps {
		for j := 0; ; {
			s, ok := p.steps[i].(*sendFrames)
			if !ok || j >= len(s.frames) || len(s.frames) == 1 {
				break
			}
			q := *p
			q.steps = slices.Clone(p.steps)
			q.steps[i] = &sendFrames{s.port, s.queue, slices.Concat(s.frames[:j], s.frames[j+1:])}
			if !try(q) {
				j++
			}
		}
	}
	return p, err
}

// contest is a run: the switch and the model side by side.
type contest struct {
	t      *testing.T
	plan   *plan
	start  time.Time
	host   *vswitch.Host
	ref    *refswitch.Host
	cables map[string]*modelCable
	sent   map[string]*refswitch.Sent // by this step, says the model
	damped map[string]uint64          // moves, before this step
	faults []error
}

// modelCable is what a vNIC or NIC hangs on.
type modelCable struct {
	far     *ports.PipeEnd
	dead    bool
	txBytes uint64 // received at the far end
}

var modelPool = vswitch.MACRange{First: ports.MAC{0x06}, Last: ports.MAC{0x06, 0, 0, 0, 0, 0x0f}}

func newContest(t *testing.T, p *plan) *contest {
	c := &contest{t: t, plan: p, start: time.Now(), ref: refswitch.New(), cables: map[string]*modelCable{}, damped: map[string]uint64{}}
	var err error
	c.host, err = vswitch.NewHost(&vswitch.HostConfig{Workers: 1, MACPool: modelPool})
	require.NoError(t, err)
	c.ref.MaxMoves, c.ref.MoveWindow = 5, time.Second // the rate limit of moves
	c.ref.Choose = c.evicted
	return c
}

// evicted tells the model which address the switch has evicted: one that is not there any more.
func (c *contest) evicted(sw *refswitch.Switch, from []refswitch.Key) refswitch.Key {
	there := map[refswitch.Key]bool{}
	for _, a := range c.host.Switch(sw.Name).Addresses() {
		there[refswitch.Key{VLAN: a.VLAN, MAC: a.MAC}] = true
	}
	for _, k := range from {
		if !there[k] {
			return k
		}
	}
	return from[0]
}

func (c *contest) fault(format string, args ...any) {
	c.faults = append(c.faults, fmt.Errorf(format, args...))
}

// agree notes a fault unless switch and model both took an event or both refused it.
func (c *contest) agree(err error, ok bool) {
	if (err == nil) != ok {
		c.fault("the switch says %v, the model says %v", err, ok)
	}
}

// compare compares all that can be seen.
func (c *contest) compare() {
	synctest.Wait()
	for name, cable := range c.cables {
		c.compareReceived(name, cable)
	}
	for _, name := range slices.Sorted(maps.Keys(c.ref.Ports)) {
		c.comparePort(c.ref.Ports[name])
	}
	for _, name := range slices.Sorted(maps.Keys(c.ref.Switches)) {
		c.compareSwitch(c.ref.Switches[name])
	}
	c.sent = nil
}

// compareReceived compares what has arrived at a cable's far end. Order is a matter of flows.
func (c *contest) compareReceived(name string, cable *modelCable) {
	var got []*ports.Frame
	for i := range cable.far.Info().RxQueues {
		got = append(got, receiveAll(cable.far.Rx(i))...)
	}
	for _, f := range got {
		cable.txBytes += uint64(f.Len())
	}
	want := c.sent[name]
	if want == nil {
		want = &refswitch.Sent{}
	}
	if len(got) != len(want.Frames)-want.Lost {
		c.fault("%s received %d frames, of %d sent and %d lost", name, len(got), len(want.Frames), want.Lost)
	}
	flows := map[string][]string{}
	for _, f := range want.Frames {
		flow, wire := wireOf(newModelFrame(f))
		flows[flow] = append(flows[flow], wire)
	}
	for _, f := range got {
		flow, wire := wireOf(f)
		at := slices.Index(flows[flow], wire)
		if at < 0 || at > 0 && want.Lost == 0 {
			c.fault("%s received [%s], which was not sent or is out of order; sent was %v", name, showWire(wire), mapSlice(flows[flow], showWire))
			continue
		}
		flows[flow] = flows[flow][at+1:]
	}
}

func (c *contest) comparePort(p *refswitch.Port) {
	var got vswitch.PortStats
	var connected bool
	if p.VNIC != nil {
		v := c.host.VNIC(p.Name)
		got, connected = v.Stats(), v.Connected()
	} else {
		n := c.host.NIC(p.Name)
		got, connected = n.Stats(), n.Switch() != nil
	}
	if connected != (p.Switch != nil) {
		c.fault("%s is connected: %v, not %v", p.Name, connected, p.Switch != nil)
	}
	want := vswitch.PortStats{
		Port:     p.Name,
		RxFrames: p.RxFrames, RxBytes: p.RxBytes,
		TxFrames: p.TxFrames, TxBytes: c.cables[p.Name].txBytes,
		Drops: got.Drops,
	}
	if !reflect.DeepEqual(got, want) {
		c.fault("%s has counted %+v, not %+v", p.Name, got, want)
	}
	drops := map[refswitch.Reason]uint64{}
	for r, n := range got.Drops {
		drops[refswitch.Reason(r.String())] = n
	}
	if !maps.Equal(drops, p.Drops) {
		c.fault("%s has dropped %v, not %v", p.Name, drops, p.Drops)
	}
}

func (c *contest) compareSwitch(s *refswitch.Switch) {
	real := c.host.Switch(s.Name)
	got := real.Stats()
	members := mapSlice(got.Ports, func(p vswitch.PortStats) string { return p.Port })
	got.Ports = nil // compared already
	// Frames that come together may count as one move that was not followed.
	if before := c.damped[s.Name]; before < got.Damped && got.Damped < s.Damped {
		s.Damped = got.Damped
	}
	c.damped[s.Name] = s.Damped
	want := vswitch.SwitchStats{
		Flooded: s.Flooded, FloodedUnknown: s.FloodedUnknown,
		Learned: s.Learned, Moved: s.Moved, Damped: s.Damped, Evicted: s.Evicted,
		Aged: s.Aged, Addresses: len(s.Table),
	}
	if !c.plan.coarse {
		want.Aged, want.Addresses = got.Aged, got.Addresses
	}
	if !reflect.DeepEqual(got, want) {
		c.fault("%s has counted %+v, not %+v", s.Name, got, want)
	}
	var names []string
	for _, p := range c.ref.Ports {
		if p.Switch == s {
			names = append(names, p.Name)
		}
	}
	slices.Sort(names)
	if !slices.Equal(members, names) {
		c.fault("%s has the ports %v, not %v", s.Name, members, names)
	}
	table := map[refswitch.Key]vswitch.Address{}
	for k, e := range s.Table {
		a := vswitch.Address{MAC: k.MAC, VLAN: k.VLAN, Port: e.Port.Name, Static: e.Static, Moves: e.Moves}
		if !e.Static {
			a.Age = c.ref.Now - e.Seen
		}
		table[k] = a
	}
	for _, a := range real.Addresses() {
		k := refswitch.Key{VLAN: a.VLAN, MAC: a.MAC}
		if want, ok := table[k]; !ok {
			c.fault("%s knows %+v", s.Name, a)
		} else if a != want {
			c.fault("%s knows %+v, not %+v", s.Name, a, want)
		}
		delete(table, k)
	}
	for _, a := range table {
		c.fault("%s does not know %+v", s.Name, a)
	}
}

func mapSlice[A, B any](l []A, f func(A) B) []B {
	var r []B
	for _, a := range l {
		r = append(r, f(a))
	}
	return r
}

func receiveAll(q ports.RxQueue) (got []*ports.Frame) {
	for b := ports.NewBatch(64); ; {
		b.Reset()
		q.Recv(b) // the error says that the cable is dead
		for _, f := range b.Frames() {
			g := new(ports.Frame)
			g.CopyFrom(f)
			got = append(got, g)
		}
		q.Release()
		if b.Len() == 0 {
			return got
		}
	}
}

func newModelFrame(f refswitch.Frame) *ports.Frame {
	g := newFrame(f.Data)
	g.VLAN = f.Tag
	return g
}

// wireOf returns the frame as it looks on the wire, and its flow: its destination and source, and its
// tag if it has one.
func wireOf(f *ports.Frame) (flow, wire string) {
	b := make([]byte, f.WireLen())
	f.CopyTo(b)
	flow = string(b[:12])
	if f.WireLen() >= 18 && f.VLAN.Present() {
		flow = string(b[:16])
	}
	return flow, string(b)
}

func showWire(wire string) string { return showFrame(refswitch.Frame{Data: []byte(wire)}) }

// showFrame shows source, destination, tag beside the bytes, type with tags among the bytes, length
// and the last bytes, which tell a frame from others.
func showFrame(f refswitch.Frame) string {
	d := f.Data
	if len(d) < 14 {
		return fmt.Sprintf("%d bytes", len(d))
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s→%s", ports.MAC(d[6:]), ports.MAC(d))
	if f.Tag.Present() {
		fmt.Fprintf(&b, " (%04x %04x)", f.Tag.TPID, f.Tag.TCI)
	}
	at := 12
	for ; at+4 <= len(d) && (d[at] == 0x81 || d[at] == 0x88 && d[at+1] == 0xa8); at += 4 {
		fmt.Fprintf(&b, " %x %x", d[at:at+2], d[at+2:at+4])
	}
	fmt.Fprintf(&b, " %x, %d bytes, …%x", d[at:min(at+2, len(d))], len(d), d[max(14, len(d)-2):])
	return b.String()
}

// The steps.

type addNIC struct {
	name  string
	cable modelCableConfig
}

type modelCableConfig struct {
	mtu, queues, depth int
}

func (s modelCableConfig) String() string {
	return fmt.Sprintf("MTU %d, queues %d × %d", s.mtu, s.queues, s.depth)
}

// modest is a cable that carries longer frames than it says.
type modest struct {
	*ports.PipeEnd
	mtu int
}

func (m modest) Info() ports.Info {
	i := m.PipeEnd.Info()
	i.MTU = m.mtu
	return i
}

func (s modelCableConfig) make(t *testing.T) (near modest, _ *modelCable, _ refswitch.Cable) {
	a, b, err := ports.Pipe(&ports.PipeConfig{MTU: 9000, Queues: s.queues, Depth: s.depth})
	require.NoError(t, err)
	return modest{a, s.mtu}, &modelCable{far: b}, refswitch.Cable{MTU: s.mtu, Room: s.depth}
}

func (s *addNIC) String() string { return fmt.Sprintf("add NIC %s: %s", s.name, s.cable) }

func (s *addNIC) do(c *contest) {
	near, cable, ref := s.cable.make(c.t)
	_, err := c.host.AddNIC(s.name, near)
	c.agree(err, c.ref.AddNIC(s.name, ref))
	if err == nil {
		c.cables[s.name] = cable
	}
}

type newVNIC struct {
	name  string
	cable modelCableConfig
	cfg   vswitch.VNICConfig
}

func (s *newVNIC) String() string { return fmt.Sprintf("new vNIC %s: %+v; %s", s.name, s.cfg, s.cable) }

func (s *newVNIC) do(c *contest) {
	near, cable, ref := s.cable.make(c.t)
	v, err := c.host.NewVNIC(s.name, near, &s.cfg)
	cfg := refVNIC(s.cfg)
	if err == nil {
		cfg.MAC = c.macOf(v, s.cfg)
		c.cables[s.name] = cable
	}
	c.agree(err, c.ref.NewVNIC(s.name, ref, cfg))
}

// macOf returns the MAC that a vNIC has got.
func (c *contest) macOf(v *vswitch.VNIC, cfg vswitch.VNICConfig) ports.MAC {
	switch mac := v.MAC(); {
	case cfg.MAC.IsZero() && (mac[0] != modelPool.First[0] || mac[5] > modelPool.Last[5]):
		c.fault("%s has got %s, which is not of the pool", v.Name(), mac)
	case !cfg.MAC.IsZero() && mac != cfg.MAC:
		c.fault("%s has %s, not %s", v.Name(), mac, cfg.MAC)
	}
	return v.MAC()
}

func refVNIC(c vswitch.VNICConfig) refswitch.VNICConfig {
	r := refswitch.VNICConfig{
		Switch: c.Switch, Management: c.Management, MAC: c.MAC, AllowSpoofing: c.AllowSpoofing,
		BlockUnknownUnicast: c.BlockUnknownUnicast, Hairpin: c.Hairpin, MaxAddresses: c.MaxAddresses,
	}
	if r.MaxAddresses == 0 {
		r.MaxAddresses = 1024
	}
	return r
}

// setVNIC changes one setting of a vNIC.
type setVNIC struct {
	name, what string
	change     func(*vswitch.VNICConfig)
}

func (s *setVNIC) String() string { return fmt.Sprintf("set %s: %s", s.name, s.what) }

func (s *setVNIC) do(c *contest) {
	v := c.host.VNIC(s.name)
	if v == nil {
		return
	}
	cfg := v.Config()
	s.change(&cfg)
	err := v.SetConfig(cfg)
	ref := refVNIC(cfg)
	if err == nil {
		ref.MAC = c.macOf(v, cfg)
	}
	synctest.Wait()
	c.agree(err, c.ref.SetVNIC(s.name, ref))
}

type newSwitch struct {
	name string
	cfg  vswitch.SwitchConfig
}

func (s *newSwitch) String() string { return fmt.Sprintf("new switch %s: %+v", s.name, s.cfg) }

func (s *newSwitch) do(c *contest) {
	_, err := c.host.NewSwitch(s.name, &s.cfg)
	c.agree(err, c.ref.NewSwitch(s.name, refSwitch(s.cfg)))
}

func refSwitch(c vswitch.SwitchConfig) refswitch.SwitchConfig {
	r := refswitch.SwitchConfig{Type: refswitch.Type(c.Type), Uplink: c.Uplink, Ageing: c.Ageing, MaxAddresses: c.MaxAddresses}
	if r.Ageing == 0 {
		r.Ageing = 300 * time.Second
	}
	if r.MaxAddresses == 0 {
		r.MaxAddresses = 65536
	}
	return r
}

type setSwitch struct {
	name, what string
	change     func(*vswitch.SwitchConfig)
}

func (s *setSwitch) String() string { return fmt.Sprintf("set %s: %s", s.name, s.what) }

func (s *setSwitch) do(c *contest) {
	sw := c.host.Switch(s.name)
	if sw == nil {
		return
	}
	cfg := sw.Config()
	ageing := cfg.Ageing
	s.change(&cfg)
	err := sw.SetConfig(cfg)
	synctest.Wait()
	c.agree(err, c.ref.SetSwitch(s.name, refSwitch(cfg)))
	if cfg.Ageing != ageing {
		advance(10).do(c) // as with a coarse clock
	}
}

// removal removes a thing by its kind and name.
type removal struct{ kind, name string }

func (s *removal) String() string { return fmt.Sprintf("close %s %s", s.kind, s.name) }

func (s *removal) do(c *contest) {
	switch s.kind {
	case "vNIC":
		if v := c.host.VNIC(s.name); v != nil {
			c.agree(v.Close(), true)
			c.ref.CloseVNIC(s.name)
			c.unplug(s.name)
		}
	case "NIC":
		if n := c.host.NIC(s.name); n != nil {
			err := n.Close()
			c.agree(err, c.ref.CloseNIC(s.name))
			if err == nil {
				c.unplug(s.name)
			}
		}
	case "switch":
		if sw := c.host.Switch(s.name); sw != nil {
			c.agree(sw.Close(), true)
			c.ref.CloseSwitch(s.name)
		}
	}
}

func (c *contest) unplug(name string) {
	if c.cables[name].far.Link().Up {
		c.fault("the backend of %s is open", name)
	}
	delete(c.cables, name)
}

// setLink changes the state of a link; kill breaks it for good.
type setLink struct {
	name     string
	up, kill bool
}

func (s *setLink) String() string {
	if s.kill {
		return fmt.Sprintf("%s dies", s.name)
	}
	return fmt.Sprintf("link of %s is up: %v", s.name, s.up)
}

func (s *setLink) do(c *contest) {
	cable := c.cables[s.name]
	if cable == nil || cable.dead {
		return
	}
	if s.kill {
		cable.dead = true
		cable.far.Close()
	} else {
		cable.far.SetLink(s.up)
	}
	c.ref.SetLink(s.name, s.up && !s.kill)
}

// advance lets time pass, in tenths of a second: the switch need not keep time more precisely.
type advance int

func (s advance) String() string { return fmt.Sprintf("%d.%d s pass", s/10, s%10) }

func (s advance) do(c *contest) {
	c.ref.Advance(time.Duration(s) * time.Second / 10)
	time.Sleep(time.Until(c.start.Add(c.ref.Now)))
	synctest.Wait()
}

// address adds or removes a static address.
type address struct {
	sw     string
	key    refswitch.Key
	port   string
	remove bool
}

func (s *address) String() string {
	if s.remove {
		return fmt.Sprintf("%s: remove %s in VLAN %d", s.sw, s.key.MAC, s.key.VLAN)
	}
	return fmt.Sprintf("%s: add %s in VLAN %d at %s", s.sw, s.key.MAC, s.key.VLAN, s.port)
}

func (s *address) do(c *contest) {
	sw := c.host.Switch(s.sw)
	switch {
	case sw == nil:
	case !s.remove:
		c.agree(sw.AddAddress(s.key.MAC, s.key.VLAN, s.port), c.ref.AddAddress(s.sw, s.key, s.port))
	case c.plan.coarse: // else it may have aged and still be there
		c.agree(sw.RemoveAddress(s.key.MAC, s.key.VLAN), c.ref.RemoveAddress(s.sw, s.key))
	}
}

// flush forgets what was learned at a port, or in a VLAN when port is empty.
type flush struct {
	sw, port string
	vid      uint16
}

func (s *flush) String() string {
	if s.port != "" {
		return fmt.Sprintf("%s: flush port %s", s.sw, s.port)
	}
	return fmt.Sprintf("%s: flush VLAN %d", s.sw, s.vid)
}

func (s *flush) do(c *contest) {
	sw := c.host.Switch(s.sw)
	switch {
	case sw == nil:
	case s.port != "":
		c.agree(sw.FlushPort(s.port), c.ref.FlushPort(s.sw, s.port))
	default:
		sw.FlushVLAN(s.vid)
		c.ref.FlushVLAN(s.sw, s.vid)
	}
}

// sendFrames sends frames in one batch.
type sendFrames struct {
	port   string
	queue  int
	frames []refswitch.Frame
}

func (s *sendFrames) String() string {
	return fmt.Sprintf("%s sends [%s]", s.port, strings.Join(mapSlice(s.frames, showFrame), "] ["))
}

func (s *sendFrames) do(c *contest) {
	p, cable := c.ref.Ports[s.port], c.cables[s.port]
	if p == nil || p.Switch == nil || p.Cable.Down {
		return
	}
	q := cable.far.Tx(s.queue % cable.far.Info().TxQueues)
	n, err := q.Send(mapSlice(s.frames, newModelFrame))
	if err != nil {
		c.fault("send: %v", err)
	}
	synctest.Wait()
	c.sent = c.ref.Receive(s.port, s.frames[:n])
}

// planner makes plans. What it knows are names and addresses, not what will be there.
type planner struct {
	*rand.Rand
	plan
	frames int
}

var (
	modelSwitches = []string{"red", "blue"}
	modelNICs     = []string{"nic0", "nic1"}
	modelVNICs    = []string{"vm0", "vm1", "vm2", "vm3", "vm4", "vm5", "host0"}
)

func newPlan(seed uint64) *plan {
	p := &planner{Rand: rand.New(rand.NewPCG(seed, 0))}
	p.tight = p.IntN(3) == 0
	p.coarse = p.tight || p.IntN(3) > 0
	for _, n := range modelNICs {
		p.add(&addNIC{n, p.cable()})
	}
	p.add(p.newSwitch("red"))
	for _, n := range modelVNICs[:3+p.IntN(len(modelVNICs)-2)] {
		p.add(p.newVNIC(n))
	}
	for range 5 + p.IntN(60) {
		switch p.IntN(40) {
		case 0:
			p.roam()
		case 1:
			p.gather()
		default:
			p.add(p.step())
		}
	}
	return &p.plan
}

func (p *planner) add(s step) { p.steps = append(p.steps, s) }

func pick[T any](p *planner, from ...T) T { return from[p.IntN(len(from))] }

func (p *planner) chance(percent int) bool { return p.IntN(100) < percent }

func (p *planner) port() string { return pick(p, append(modelVNICs[:], modelNICs...)...) }

// home is mostly the same switch, so that something happens there.
func (p *planner) home() string {
	if p.chance(85) {
		return "red"
	}
	return pick(p, "blue", "green", "")
}

func (p *planner) step() step {
	switch n := p.IntN(100); {
	case n < 70:
		return p.send()
	case n < 76:
		return p.advance()
	case n < 82:
		return p.setVNIC(pick(p, modelVNICs...))
	case n < 85:
		return p.setSwitch(pick(p, "red", "red", "red", "blue"))
	case n < 89:
		return &setLink{name: p.port(), up: p.chance(60), kill: p.chance(10)}
	case n < 92:
		return &address{pick(p, "red", "red", "blue"), refswitch.Key{VLAN: p.vlan(), MAC: p.mac(p.port())}, p.port(), p.chance(35)}
	case n < 94:
		if p.chance(50) {
			return &flush{sw: pick(p, "red", "blue"), port: p.port()}
		}
		return &flush{sw: pick(p, "red", "blue"), vid: p.vlan()}
	case n < 96:
		return p.newVNIC(pick(p, modelVNICs...))
	case n < 97:
		return p.newSwitch(pick(p, modelSwitches...))
	case n < 98:
		return &addNIC{pick(p, modelNICs...), p.cable()}
	case n < 99:
		return &removal{"vNIC", pick(p, modelVNICs...)}
	}
	return pick[step](p, &removal{"switch", pick(p, modelSwitches...)}, &removal{"NIC", pick(p, modelNICs...)})
}

// roam makes a station appear at one port and another in turn, a few times more than is tolerated.
func (p *planner) roam() {
	src, between := p.station(), []string{p.port(), p.port()}
	for i := range 4 + p.IntN(12) {
		p.add(&sendFrames{port: between[i%2], frames: []refswitch.Frame{p.frame(p.mac(between[0]), src, modelTags{})}})
		if p.chance(30) {
			p.add(p.advance())
		}
	}
}

// gather makes several stations appear at one vNIC.
func (p *planner) gather() {
	at := pick(p, modelVNICs...)
	for range 3 + p.IntN(6) {
		p.add(&sendFrames{port: at, frames: []refswitch.Frame{p.frame(p.mac(at), p.station(), modelTags{})}})
	}
	if p.chance(50) {
		n := p.maxAddresses()
		p.add(&setVNIC{at, fmt.Sprint("MaxAddresses ", n), func(c *vswitch.VNICConfig) { c.MaxAddresses = n }})
	}
}

func (p *planner) advance() step {
	if p.coarse {
		return advance(10 * pick(p, 1, 1, 1, 2, 3, 30, 300, 301))
	}
	return advance(pick(p, 1, 1, 1, 2, 3, 5, 8, 9, 10, 11, 20, 21, 300, 301, 3000, 3001))
}

func (p *planner) cable() modelCableConfig {
	c := modelCableConfig{mtu: pick(p, 1500, 1500, 1500, 600, 9000), queues: 1, depth: 256}
	if p.chance(20) {
		c.depth = pick(p, 2, 8)
	} else if p.chance(20) {
		c.queues = 2
	}
	return c
}

func (p *planner) newSwitch(name string) step {
	return &newSwitch{name, vswitch.SwitchConfig{
		Type: pick(p, vswitch.Private, vswitch.Internal, vswitch.External), Uplink: p.uplink(),
		Ageing: p.ageing(), MaxAddresses: p.maxAddresses(),
	}}
}

func (p *planner) uplink() string { return pick(p, "", "nic0", "nic0", "nic1", "nic2") }

func (p *planner) ageing() time.Duration {
	return pick(p, 0, 0, time.Second, 2*time.Second, 30*time.Second)
}

func (p *planner) maxAddresses() int {
	if p.tight {
		return 1 + p.IntN(6)
	}
	return 0
}

func (p *planner) newVNIC(name string) step {
	return &newVNIC{name, p.cable(), vswitch.VNICConfig{
		Switch: p.home(), Management: strings.HasPrefix(name, "host"), MAC: p.vnicMAC(name),
		AllowSpoofing: p.tight || p.chance(60), BlockUnknownUnicast: p.chance(20), Hairpin: p.chance(15), MaxAddresses: p.maxAddresses(),
	}}
}

func (p *planner) setVNIC(name string) step {
	set := func(what string, change func(*vswitch.VNICConfig)) step { return &setVNIC{name, what, change} }
	b := p.chance(50)
	switch p.IntN(6) {
	case 0:
		return set(fmt.Sprint("AllowSpoofing ", b), func(c *vswitch.VNICConfig) { c.AllowSpoofing = b })
	case 1:
		return set(fmt.Sprint("BlockUnknownUnicast ", b), func(c *vswitch.VNICConfig) { c.BlockUnknownUnicast = b })
	case 2:
		return set(fmt.Sprint("Hairpin ", b), func(c *vswitch.VNICConfig) { c.Hairpin = b })
	case 3:
		m := p.vnicMAC(name)
		return set("MAC "+m.String(), func(c *vswitch.VNICConfig) { c.MAC = m })
	case 4:
		n := p.maxAddresses()
		return set(fmt.Sprint("MaxAddresses ", n), func(c *vswitch.VNICConfig) { c.MaxAddresses = n })
	}
	s := p.home()
	return set(fmt.Sprintf("Switch %q", s), func(c *vswitch.VNICConfig) { c.Switch = s })
}

func (p *planner) setSwitch(name string) step {
	set := func(what string, change func(*vswitch.SwitchConfig)) step { return &setSwitch{name, what, change} }
	switch p.IntN(8) {
	case 0:
		if d := p.ageing(); p.coarse {
			return set(fmt.Sprint("Ageing ", d), func(c *vswitch.SwitchConfig) { c.Ageing = d })
		}
		return advance(1)
	case 1:
		n := p.maxAddresses()
		return set(fmt.Sprint("MaxAddresses ", n), func(c *vswitch.SwitchConfig) { c.MaxAddresses = n })
	case 2, 3:
		u := p.uplink()
		return set(fmt.Sprintf("Uplink %q", u), func(c *vswitch.SwitchConfig) { c.Uplink = u })
	}
	typ := pick(p, vswitch.Private, vswitch.Internal, vswitch.External)
	u := ""
	if typ == vswitch.External {
		u = p.uplink()
	}
	return set(fmt.Sprintf("Type %s, Uplink %q", typ, u), func(c *vswitch.SwitchConfig) { c.Type, c.Uplink = typ, u })
}

// vnicMAC is an address for a vNIC: mostly its usual one, at times one from the pool, one of a station
// or of another vNIC.
func (p *planner) vnicMAC(name string) ports.MAC {
	switch n := p.IntN(10); {
	case n < 6:
		return usualMAC(name)
	case n < 8:
		return ports.MAC{}
	case n < 9:
		return usualMAC(pick(p, modelVNICs...))
	}
	return p.station()
}

func usualMAC(name string) ports.MAC {
	return ports.MAC{0x02, 0, 0, 0, 0xaa, byte(slices.Index(modelVNICs, name))}
}

// station is the address of a station behind a port. It differs from a vNIC's in its first octet only.
func (p *planner) station() ports.MAC { return ports.MAC{0x0a, 0, 0, 0, 0xaa, byte(p.IntN(6))} }

// mac is an address that there may be, or one that is special.
func (p *planner) mac(port string) ports.MAC {
	switch n := p.IntN(100); {
	case n < 40:
		return usualMAC(pick(p, modelVNICs...))
	case n < 50:
		return ports.MAC{0x06, 0, 0, 0, 0, byte(p.IntN(4))}
	case n < 75:
		return p.station()
	case n < 83:
		return ports.Broadcast
	case n < 88:
		return pick(p, ports.MAC{0x01, 0, 0x5e, 0, 0, 0xfb}, ports.MAC{0x33, 0x33, 0, 0, 0, 1})
	case n < 92:
		return ports.MAC{0x01, 0x80, 0xc2, 0, 0, byte(p.IntN(0x12))}
	case n < 93:
		return pick(p, ports.MAC{0x01, 0x80, 0xc2, 0, 1, 0}, ports.MAC{0x00, 0x80, 0xc2, 0, 0, 1})
	case n < 95:
		return ports.MAC{}
	}
	return usualMAC(port)
}

func (p *planner) sourceOf(port string) ports.MAC {
	usual := 60
	if strings.HasPrefix(port, "nic") {
		usual = 0
	} else if p.tight {
		usual = 30
	}
	switch n := p.IntN(100); {
	case n < usual:
		return usualMAC(port)
	case n < 85:
		return p.station()
	}
	return p.mac(port)
}

func (p *planner) vlan() uint16 { return pick[uint16](p, 0, 0, 0, 1, 10, 4094, 4095) }

func (p *planner) send() step {
	s := &sendFrames{port: p.port(), queue: p.IntN(2)}
	if p.chance(30) {
		s.port = pick(p, modelNICs...)
	}
	n := pick(p, 1, 1, 1, 2, 3, 5, 9)
	if p.chance(2) {
		n = 64
	}
	src, tags := p.sourceOf(s.port), p.tags()
	dst := p.mac(s.port)
	for range n {
		if !p.tight {
			if p.chance(40) {
				src = p.sourceOf(s.port)
			}
			if p.chance(20) {
				tags = p.tags()
			}
		}
		if p.chance(60) {
			dst = p.mac(s.port)
		}
		s.frames = append(s.frames, p.frame(dst, src, tags))
	}
	return s
}

type modelTags struct {
	beside ports.Tag
	among  []byte // the bytes
}

func (p *planner) tag() ports.Tag {
	return ports.Tag{
		TPID: pick[uint16](p, 0x8100, 0x8100, 0x88a8),
		TCI:  pick[uint16](p, 0, 0, 1, 10, 10, 4094, 4095) | uint16(p.IntN(16))<<12,
	}
}

func (p *planner) tags() (t modelTags) {
	if p.chance(70) {
		return t
	}
	if p.chance(50) {
		t.beside = p.tag()
	}
	for range pick(p, 0, 1, 1, 1, 2, 3) {
		g := p.tag()
		t.among = append(t.among, byte(g.TPID>>8), byte(g.TPID), byte(g.TCI>>8), byte(g.TCI))
	}
	return t
}

// frame is a frame of any length, the last bytes of which are not like those of others.
func (p *planner) frame(dst, src ports.MAC, tags modelTags) refswitch.Frame {
	p.frames++
	d := slices.Concat(dst[:], src[:], tags.among, pick(p, []byte{0x08, 0x00}, []byte{0x88, 0xb5}, []byte{0x00, 0x2e}, []byte{0x91, 0x00}))
	head := len(d)
	n := pick(p, 16, 46, 46, 46, p.IntN(200))
	if p.chance(10) { // about an MTU
		n = pick(p, 600, 1500, 9000) - len(tags.among) + p.IntN(11) - 5
	}
	d = append(d, make([]byte, max(2, min(n, 9000-len(tags.among))))...)
	d[len(d)-2], d[len(d)-1] = byte(p.frames>>8), byte(p.frames)
	if p.chance(4) { // cut off
		d = d[:p.IntN(head+2)]
	}
	return refswitch.Frame{Tag: tags.beside, Data: d}
}

// TestManyWorkers runs many flows through several workers at once, while the configuration of all but
// the stations concerned changes. No queue runs full, so each flow must arrive whole, in order, once,
// and nowhere else.
func TestManyWorkers(t *testing.T) {
	for _, restless := range []bool{false, true} {
		t.Run(fmt.Sprint("changes=", restless), func(t *testing.T) { runCrowd(t, restless) })
	}
}

// crowd is a switch with stations that send to each other.
type crowd struct {
	*lab
	stations []*crowdStation
	sent     atomic.Int64
}

// crowdStation is a guest, or the one on the wire behind the uplink, with two queues in each direction.
type crowdStation struct {
	*station
	extra        ports.MAC // another address that it sends from
	blockUnknown bool
}

const (
	crowdQueues = 2
	crowdDepth  = 4096
	crowdGuests = 5

	wire = 0 // the station behind the uplink, whose address is learned
)

// Destinations of flows beside the stations.
const (
	toAll     = -1 - iota // broadcast
	toUnknown             // nobody has that address
	toExtra               // the extra address of the next station
)

func runCrowd(t *testing.T, restless bool) {
	c := &crowd{lab: newLabWith(t, vswitch.HostConfig{Workers: 4})}
	cable := ports.PipeConfig{Queues: crowdQueues, Depth: crowdDepth}
	c.stations = append(c.stations, &crowdStation{station: c.nicOn(cable, "eth0"), extra: stranger(100)})
	c.newSwitch("lab", vswitch.SwitchConfig{Type: vswitch.External, Uplink: "eth0"})
	for i := range crowdGuests {
		cfg := vswitch.VNICConfig{Switch: "lab", AllowSpoofing: i%2 == 0, BlockUnknownUnicast: i == 3}
		s := &crowdStation{station: c.guestOn(cable, fmt.Sprint("vm", i), cfg), blockUnknown: i == 3}
		s.extra = s.mac
		if cfg.AllowSpoofing {
			s.extra = stranger(101 + i)
		}
		c.stations = append(c.stations, s)
	}
	rounds := 160 // no receiver can get more than crowdDepth frames of so many
	if hurried() {
		rounds = 60
	}
	stop := make(chan struct{})
	changed := make(chan struct{})
	go func() {
		defer close(changed)
		if restless {
			c.changeEverythingElse(stop)
		}
	}()
	senders := make(chan error, len(c.stations)*crowdQueues)
	for i := range c.stations {
		for q := range crowdQueues {
			go func() { senders <- c.sendFlows(i, q, rounds) }()
		}
	}
	for range cap(senders) {
		require.NoError(t, <-senders)
	}
	require.Eventually(t, func() bool {
		var n int64
		for _, s := range c.stations {
			if s.nic != nil {
				n += int64(s.nic.Stats().RxFrames)
			} else {
				n += int64(s.vnic.Stats().RxFrames)
			}
		}
		return n == c.sent.Load()
	}, 20*time.Second, time.Millisecond, "frames were left lying")
	close(stop)
	<-changed
	for i := range c.stations {
		c.check(i, rounds)
	}
}

// flowsOf returns the destinations of what station i sends by queue q.
func (c *crowd) flowsOf(i, q int) (to []int) {
	for j := range c.stations {
		if j != i && j%crowdQueues == q {
			to = append(to, j)
		}
	}
	return append(to, []int{toAll, toUnknown, toExtra}[q:q+2]...)
}

// sendFlows sends the flows of a queue, mixed, in batches of any size. Each round has a frame of each
// flow, with the numbers of sender and round, the destination and the queue in it.
func (c *crowd) sendFlows(i, q, rounds int) error {
	s := c.stations[i]
	r := rand.New(rand.NewPCG(uint64(i), uint64(q)))
	to := c.flowsOf(i, q)
	var batch []*ports.Frame
	for n := range rounds {
		for _, k := range r.Perm(len(to)) {
			dst := to[k]
			src := s.mac
			if dst == toExtra {
				src = s.extra
			}
			f := newFrame(frame(c.address(i, dst), src, fmt.Sprintf("%d %d %d %d ", i, dst, q, n)))
			if batch = append(batch, f); r.IntN(20) > 0 {
				continue
			}
			if err := c.sendBatch(s, q, batch); err != nil {
				return err
			}
			batch = batch[:0]
		}
	}
	return c.sendBatch(s, q, batch)
}

func (c *crowd) sendBatch(s *crowdStation, q int, batch []*ports.Frame) error {
	n, err := s.end.Tx(q).Send(batch)
	for ; err == nil && n < len(batch); time.Sleep(time.Millisecond) { // the switch lags behind
		var more int
		more, err = s.end.Tx(q).Send(batch[n:])
		n += more
	}
	c.sent.Add(int64(len(batch)))
	return err
}

func (c *crowd) address(from, to int) ports.MAC {
	switch to {
	case toAll:
		return ports.Broadcast
	case toUnknown:
		return stranger(999)
	case toExtra:
		return c.stations[(from+1)%len(c.stations)].extra
	}
	return c.stations[to].mac
}

// check goes through all that station i has received.
func (c *crowd) check(i, rounds int) {
	type flowID struct{ from, to, queue int }
	me := c.stations[i]
	next := map[flowID]int{}
	for q := range crowdQueues {
		for _, f := range receiveAll(me.end.Rx(q)) {
			var id flowID
			var n int
			_, err := fmt.Sscanf(string(f.Head()[14:]), "%d %d %d %d", &id.from, &id.to, &id.queue, &n)
			require.NoError(c.t, err)
			owner := (id.from + 1) % len(c.stations)
			learned := id.to == wire || id.to == toExtra && c.stations[owner].extra != c.stations[owner].mac
			switch {
			case id.from == i:
				c.t.Fatalf("%d got its own frame to %d back", i, id.to)
			case id.to == i, id.to == toAll, id.to == toUnknown && !me.blockUnknown, id.to == toExtra && owner == i:
				require.Equal(c.t, next[id], n, "flow %+v at %d: a frame is missing, doubled or out of order", id, i)
			case learned && !me.blockUnknown:
				// Flooded while the address was not known.
				require.LessOrEqual(c.t, next[id], n, "flow %+v at %d: a frame is doubled or out of order", id, i)
			default:
				c.t.Fatalf("%d got a frame from %d to %d", i, id.from, id.to)
			}
			next[id] = n + 1
		}
	}
	for from := range c.stations {
		for q := range crowdQueues {
			for _, to := range c.flowsOf(from, q) {
				if from == i || to == toUnknown && me.blockUnknown || to >= 0 && to != i {
					continue
				}
				if to == toExtra && (from+1)%len(c.stations) != i {
					continue
				}
				require.Equal(c.t, rounds, next[flowID{from, to, q}], "frames from %d to %d at %d", from, to, i)
			}
		}
	}
}

// changeEverythingElse changes what must not matter to the flows between the stations.
func (c *crowd) changeEverythingElse(stop chan struct{}) {
	r := rand.New(rand.NewPCG(1, 1))
	sw := c.sw()
	var passers []*station
	for {
		select {
		case <-stop:
			return
		default:
		}
		s := c.stations[1+r.IntN(crowdGuests)]
		switch r.IntN(10) {
		case 0:
			sw.FlushVLAN(0)
		case 1:
			require.NoError(c.t, sw.FlushPort(s.vnic.Name()))
		case 2:
			s.reconfigure(func(cfg *vswitch.VNICConfig) { cfg.MaxAddresses = 1 + r.IntN(4) })
		case 3:
			s.reconfigure(func(cfg *vswitch.VNICConfig) { cfg.Notes += "." })
		case 4:
			c.reconfigure(func(cfg *vswitch.SwitchConfig) {
				cfg.Ageing = time.Duration(1+r.IntN(9)) * time.Second
				cfg.MaxAddresses = 1 + r.IntN(6)
			})
		case 5:
			require.NoError(c.t, sw.AddAddress(stranger(5000+r.IntN(50)), 0, s.vnic.Name()))
		case 6:
			sw.RemoveAddress(stranger(5000+r.IntN(50)), 0) // if it is there
		case 7:
			sw.Addresses()
			sw.Stats()
		case 8: // a guest that never receives
			if len(passers) < 8 {
				cfg := vswitch.VNICConfig{Switch: "lab", Hairpin: true}
				passers = append(passers, c.guestOn(ports.PipeConfig{Depth: 8}, fmt.Sprint("passer", r.Int64()), cfg))
			} else {
				k := r.IntN(len(passers))
				require.NoError(c.t, passers[k].vnic.Close())
				passers = slices.Delete(passers, k, k+1)
			}
		case 9:
			if len(passers) > 0 {
				p := passers[r.IntN(len(passers))]
				p.end.SetLink(r.IntN(2) == 0)
				p.reconfigure(func(cfg *vswitch.VNICConfig) { cfg.Switch = []string{"", "lab"}[r.IntN(2)] })
			}
		}
	}
}
