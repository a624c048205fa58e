package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/hvswitch/hvswitch/ports"
)

// vhostuser rows: a guest sends as fast as it can through the switch to another. Both guests are
// ports of one testpmd with a CPU of its own, the switch has another.

// vhostLoad is what the guests do.
type vhostLoad struct {
	size, flows, macs int
	packed            bool // the rings of the guests
	trips             bool // one frame goes there and back
}

func (l vhostLoad) name() string {
	n := fmt.Sprintf("vhostuser/%dB", l.size)
	if l.macs > 1 {
		n += fmt.Sprintf("/macs=%d", l.macs)
	} else {
		n += fmt.Sprintf("/flows=%d", l.flows)
	}
	if l.packed {
		n += "/packed"
	}
	return n
}

const (
	vhostRep      = time.Second
	vhostShortRep = 300 * time.Millisecond
	vhostPatience = 10 * time.Second // until the first frames arrive

	// All contestants are there at once, though only one runs: testpmd as guests of three switches
	// and as one of these, and Open vSwitch, which takes more than at first if it can.
	vhostMemory = (4*testpmdMemory + 3*ovsMemory) << 20
	ovsMemory   = 256 // MiB

	switchCPU, guestCPU = 0, 1 // indices into cpus
	vhostRing           = 1024

	// CPUs that share a cache pass a line there and back in 45–160 ns, others in 290–450.
	farApart = 200.0
)

func vhostBenches() []*bench {
	var all []*bench
	for _, l := range []vhostLoad{
		{size: 64, flows: 64, macs: 1},
		{size: 64, flows: 20000, macs: 1},
		{size: 64, flows: 64, macs: 4000},
		{size: 1500, flows: 64, macs: 1},
		{size: 64, flows: 64, macs: 1, packed: true},
	} {
		all = append(all, &bench{
			rows: []row{{l.name(), "Mframe/s", 0, true}},
			lab:  true, huge: true,
			rep: vhostRep, shortRep: vhostShortRep,
			open: func(options) (*contest, error) { return openVhost(l) },
		})
	}
	return append(all, &bench{
		rows: []row{{"vhostuser/rtt/p50", "µs", 0, false}, {"vhostuser/rtt/p90", "µs", 1, false}, {"vhostuser/rtt/p99", "µs", 2, false}},
		lab:  true, huge: true,
		rep: vhostRep, shortRep: vhostShortRep,
		open: func(options) (*contest, error) { return openVhost(vhostLoad{trips: true}) },
	})
}

func openVhost(l vhostLoad) (c *contest, err error) {
	if labMissing != "" {
		return nil, skip(labMissing)
	}
	if why := testpmdMissing(); why != "" {
		return nil, skip(why)
	}
	if len(cpus) < 2 {
		return nil, skip("needs 2 processors")
	}
	r := &vhostRow{load: l}
	defer func() {
		if err != nil {
			r.close()
		}
	}()
	page, free := hugePages()
	r.huge = page > 0 && free*page >= vhostMemory
	if r.dir, err = os.MkdirTemp("/run", "vhost"); err != nil {
		return nil, err
	}
	if l.trips {
		// No frames are prepared.
	} else if err := writePcap(filepath.Join(r.dir, "frames.pcap"), l.frames()); err != nil {
		return nil, err
	}
	c = &contest{close: r.close, note: r.note}
	if c.ours, err = r.add("hvswitch", "ours", (*vhostRow).ours); err != nil {
		return nil, err
	}
	// A machine may lack the others, and does not lose the row by it.
	var noPeer, noLimit error
	c.limit, noLimit = r.add("testpmd io", "limit", (*vhostRow).limit)
	c.peer, noPeer = r.add("Open vSwitch with DPDK", "peer", (*vhostRow).peer)
	if why := errors.Join(noPeer, noLimit); why != nil {
		r.without = strings.ReplaceAll(why.Error(), "\n", ", ")
	}
	return c, nil
}

// vhostRow is an open row.
type vhostRow struct {
	load    vhostLoad
	huge    bool
	dir     string
	without string // whom, and why
	all     []*vhostSwitch

	lines, waits []float64 // of all repetitions: ns, and shares
	stalls       []string  // who let nothing arrive in a repetition, which was not counted
}

// vhostSwitch is a switch and the guests that it connects. They are stopped but for their turns.
type vhostSwitch struct {
	name, id string
	cmd      []*process // of the switch
	daemon   *process   // the one of them that moves frames
	listens  bool       // at the sockets; otherwise the guests do
	guests   *testpmd
	pinger   *process // guests with trips
	ask      io.Writer
}

func (r *vhostRow) close() {
	for _, s := range slices.Backward(r.all) {
		if s.guests != nil {
			s.guests.kill()
		}
		if s.pinger != nil {
			s.pinger.kill()
		}
		for _, p := range slices.Backward(s.cmd) {
			p.kill()
		}
	}
	if r.dir != "" {
		os.RemoveAll(r.dir)
	}
}

// note tells what the figures depend on.
func (r *vhostRow) note() string {
	n := fmt.Sprintf("cache line there and back %.0f ns (%.0f–%.0f), kept off the CPU %.0f %% (%.0f–%.0f)",
		median(r.lines), slices.Min(r.lines), slices.Max(r.lines),
		100*median(r.waits), 100*slices.Min(r.waits), 100*slices.Max(r.waits))
	if len(r.stalls) > 0 {
		n += ", repetitions in which nothing arrived: " + strings.Join(r.stalls, ", ")
	}
	if !r.huge {
		n += ", no huge pages"
	}
	if r.without != "" {
		n += ", " + r.without
	}
	return n
}

// add starts a switch and its guests, sees frames pass and leaves all of it stopped.
func (r *vhostRow) add(name, id string, start func(*vhostRow, *vhostSwitch) error) (*contestant, error) {
	s := &vhostSwitch{name: name, id: id, listens: true}
	r.all = append(r.all, s)
	err := start(r, s)
	if err == nil && r.load.trips {
		if err = r.plugPinger(s); err == nil {
			return &contestant{name, func(d time.Duration) (sample, error) { return r.measureTrips(s, d) }}, nil
		}
	}
	if err == nil {
		err = r.plug(s)
	}
	if err == nil {
		// Guests and switch may not have come to terms yet.
		_, err = s.flow(0, 100*time.Millisecond, vhostPatience)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return &contestant{name, func(d time.Duration) (sample, error) { return r.measure(s, d) }}, nil
}

func (r *vhostRow) socket(s *vhostSwitch, port int) string {
	return filepath.Join(r.dir, fmt.Sprintf("%s%d.sock", s.id, port))
}

// Ports of the testpmd that is the guests: it forwards from port 0 to 1 and from 2 to 3.
const (
	guestSender   = 1
	guestReceiver = 2
)

// plug starts the guests.
func (r *vhostRow) plug(s *vhostSwitch) (err error) {
	var nics []string
	for i, mac := range []string{macA, macB} {
		n := fmt.Sprintf("net_virtio_user%d,path=%s,mac=%s,queue_size=%d", i, r.socket(s, i), mac, vhostRing)
		if !s.listens {
			n += ",server=1"
		}
		if r.load.packed {
			n += ",packed_vq=1"
		}
		nics = append(nics, n)
	}
	s.guests, err = startTestpmd(r.dir, s.id+"-guests", guestCPU, r.huge, []string{
		"net_pcap0,rx_pcap=" + filepath.Join(r.dir, "frames.pcap") + ",infinite_rx=1",
		nics[0], nics[1], "net_null0,no-rx=1",
	}, "--no-flush-rx", // of a source that never ends it would take seconds
		fmt.Sprintf("--total-num-mbufs=%d", testpmdBuffers+r.load.flows+r.load.macs),
		fmt.Sprintf("--txd=%d", vhostRing), fmt.Sprintf("--rxd=%d", vhostRing))
	return err
}

// frames returns one of each flow and address, to the second guest.
func (l vhostLoad) frames() [][]byte {
	src, _ := ports.ParseMAC(macA)
	dst, _ := ports.ParseMAC(macB)
	var all [][]byte
	for i := range max(l.flows, l.macs) {
		if l.macs > 1 {
			src = addr(i % l.macs)
		}
		f := load{size: l.size}.frame(pairOf(dst, src))
		binary.BigEndian.PutUint16(f[ethLen+ipLen:], uint16(1024+i%l.flows)) // source port
		all = append(all, f)
	}
	return all
}

// measure gives the rate in Mframe/s at which frames arrive.
func (r *vhostRow) measure(s *vhostSwitch, d time.Duration) (sample, error) {
	return r.placed(func() ([]float64, float64, error) {
		m, err := s.turn(d, d)
		if err == nil && m.rate == 0 {
			// On a busy machine this has been seen of all of them.
			r.stalls = append(r.stalls, fmt.Sprintf("%s (kept off %.0f %%)", s.name, 100*m.waited))
			if m, err = s.flow(d, d, vhostPatience); errors.Is(err, errNoFrames) && s.id != "ours" {
				m.rate, err = math.NaN(), nil // no figure is no reason to lose ours
			}
		}
		return []float64{m.rate / 1e6}, m.waited, err
	})
}

// placed measures, and notes how the CPUs lie to each other meanwhile.
func (r *vhostRow) placed(measure func() (values []float64, waited float64, err error)) (sample, error) {
	before := handOffTime()
	values, waited, err := measure()
	if err != nil {
		return sample{}, err
	}
	after := handOffTime()
	r.lines = append(r.lines, before, after)
	r.waits = append(r.waits, waited)
	place := "CPUs near"
	switch {
	case before >= farApart && after >= farApart:
		place = "CPUs far"
	case before >= farApart || after >= farApart:
		place = "CPUs moving"
	}
	noisy := waited > quietShare || place == "CPUs moving"
	return sample{values: values, allocs: -1, noisy: noisy, place: place}, nil
}

var errNoFrames = errors.New("no frames arrive")

type vhostRate struct {
	rate   float64 // frames a second
	waited float64 // share of the time for which guests or switch were kept off their CPU
}

// turn lets the frames flow and measures, after a while of warming up.
func (s *vhostSwitch) turn(warmUp, d time.Duration) (m vhostRate, err error) {
	s.resume()
	defer s.pause()
	// Each guest sends some frames first, from which the switch learns where it is.
	if _, err := s.guests.ask("start tx_first"); err != nil {
		return m, err
	}
	time.Sleep(warmUp)
	if _, err := s.guests.rate(guestReceiver); err != nil {
		return m, err
	}
	watch := newWaitWatch(s.daemon, s.guests.process)
	time.Sleep(d)
	m.waited = watch.waited()
	if m.rate, err = s.guests.rate(guestReceiver); err != nil {
		return m, err
	}
	if _, err := s.guests.ask("stop"); err != nil {
		return m, err
	}
	return m, nil
}

// flow takes turns until frames arrive.
func (s *vhostSwitch) flow(warmUp, d, patience time.Duration) (m vhostRate, err error) {
	for end := time.Now().Add(patience); ; {
		if m, err = s.turn(warmUp, d); err != nil || m.rate > 0 {
			return m, err
		}
		if time.Now().After(end) {
			return m, errNoFrames
		}
	}
}

func (s *vhostSwitch) resume() {
	s.daemon.cmd.Process.Signal(syscall.SIGCONT)
	if s.guests != nil {
		s.guests.cmd.Process.Signal(syscall.SIGCONT)
	}
}

// pause takes all of it off the CPUs.
func (s *vhostSwitch) pause() {
	if s.guests != nil {
		s.guests.cmd.Process.Signal(syscall.SIGSTOP)
	}
	s.daemon.cmd.Process.Signal(syscall.SIGSTOP)
	time.Sleep(5 * time.Millisecond) // they go on for a moment
}

// waitWatch finds out for how long processes are kept off their CPUs by others.
type waitWatch struct {
	start  time.Time
	pids   []int
	before []map[string]scheduled
}

func newWaitWatch(ps ...*process) *waitWatch {
	w := &waitWatch{start: time.Now()}
	for _, p := range ps {
		w.pids = append(w.pids, p.cmd.Process.Pid)
		w.before = append(w.before, threads(p.cmd.Process.Pid))
	}
	return w
}

// waited returns the largest share of the time since. Of each process that thread counts which is
// busiest, because others give way to it.
func (w *waitWatch) waited() float64 {
	took := time.Since(w.start)
	worst := 0.0
	for i, pid := range w.pids {
		var busiest scheduled
		for name, t := range threads(pid) {
			b := w.before[i][name]
			if ran := t.ran - b.ran; ran > busiest.ran {
				busiest = scheduled{ran, t.waited - b.waited}
			}
		}
		worst = math.Max(worst, float64(busiest.waited)/float64(took))
	}
	return math.Min(worst, 1) // the kernel counts at the end of each wait, which may have begun before
}

// ours starts this program as the switch.
func (r *vhostRow) ours(s *vhostSwitch) error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	c := exec.Command(exe, r.socket(s, 0), r.socket(s, 1))
	c.Env = append(os.Environ(), toolEnv+"=switch-vhost", "GOMAXPROCS=1")
	p, err := launch(c, switchCPU)
	if err != nil {
		return err
	}
	s.daemon, s.cmd = p, append(s.cmd, p)
	defer time.AfterFunc(testpmdStart, func() { p.cmd.Process.Kill() }).Stop()
	if l, err := p.line(); err != nil || l != "ready" {
		return fmt.Errorf("%s %v", l, err)
	}
	return nil
}

// limit starts a testpmd that passes frames on without a look at them.
func (r *vhostRow) limit(s *vhostSwitch) error {
	t, err := startTestpmd(r.dir, s.id, switchCPU, r.huge, []string{
		"net_vhost0,iface=" + r.socket(s, 0), "net_vhost1,iface=" + r.socket(s, 1),
	}, "--total-num-mbufs=16384", "--auto-start")
	if err != nil {
		return err
	}
	s.daemon, s.cmd = t.process, append(s.cmd, t.process)
	return nil
}

// peer starts Open vSwitch with the CPU of the switch for its datapath.
func (r *vhostRow) peer(s *vhostSwitch) error {
	for _, p := range []string{ovsDPDK, "ovsdb-server", "ovsdb-tool", "ovs-vsctl"} {
		if _, err := exec.LookPath(p); err != nil {
			return errors.New("not installed")
		}
	}
	s.listens = false
	dir := filepath.Join(r.dir, "ovs")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	extra := "--no-pci --in-memory"
	settings := []string{"dpdk-init=true", fmt.Sprintf("pmd-cpu-mask=0x%x", 1<<cpus[switchCPU])}
	if r.huge {
		settings = append(settings, "dpdk-socket-mem="+strconv.Itoa(ovsMemory))
	} else {
		extra = "--no-pci --no-huge -m 512"
	}
	settings = append(settings, "dpdk-extra="+strconv.Quote(extra))
	vsctl, err := startOVS(dir, ovsDPDK, settings, func(name string, args ...string) error {
		p, err := background(dir, name, exec.Command(name, args...), anyCPU)
		if err == nil {
			s.daemon, s.cmd = p, append(s.cmd, p)
		}
		return err
	})
	if err != nil {
		return err
	}
	add := []string{"add-br", "br0", "--", "set", "bridge", "br0", "datapath_type=netdev"}
	for i := range 2 {
		n := fmt.Sprintf("v%d", i)
		add = append(add, "--", "add-port", "br0", n, "--", "set", "interface", n,
			"type=dpdkvhostuserclient", "options:vhost-server-path="+r.socket(s, i))
	}
	return vsctl(add...)
}
