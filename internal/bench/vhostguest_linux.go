package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/hvswitch/hvswitch/ports"
)

// vhostGuest is a machine in the manner of DPDK's virtio-user: front-end of vhost-user and driver in
// one, with one pair of split rings (OASIS virtio 1.2, 2.7) that it polls. Its memory is one region:
// both rings, and behind them a buffer for each of their descriptors.
type vhostGuest struct {
	conn     *net.UnixConn
	mem      []byte
	fd       int
	out      guestVring
	in       guestVring
	received []byte // frame that was received last
}

type guestVring struct {
	g                 *vhostGuest
	desc, avail, used int // places in memory
	buffers           int
	next              uint16 // available index
	seen              uint16 // used index
	kick, call        int
}

// Requests of a front-end (vhost-user, "Front-end message types"), and the version of messages.
const (
	vhostGetFeatures = 1
	vhostSetFeatures = 2
	vhostSetOwner    = 3
	vhostSetMemTable = 5
	vhostSetNum      = 8
	vhostSetAddr     = 9
	vhostSetBase     = 10
	vhostSetKick     = 12
	vhostSetCall     = 13
	vhostVersion     = 1
)

const (
	guestRing     = 256
	guestBuffer   = 2048
	guestNetHdr   = 12              // struct virtio_net_hdr_v1
	guestVersion1 = uint64(1) << 32 // VIRTIO_F_VERSION_1

	// Where its memory begins for the guest, and for the front-end.
	guestPhysical = 0x10_0000
	guestUser     = 0x7f00_0000_0000

	ringDescLen     = 16
	ringWrite       = 2 // VIRTQ_DESC_F_WRITE
	ringNoInterrupt = 1 // VIRTQ_AVAIL_F_NO_INTERRUPT
	ringNoNotify    = 1 // VIRTQ_USED_F_NO_NOTIFY

	ringBytes = 3 * 4096 // of descriptors, available and used ring, each on pages of its own
)

func newVhostGuest(conn *net.UnixConn) (*vhostGuest, error) {
	g := &vhostGuest{conn: conn}
	size := 2 * (ringBytes + guestRing*guestBuffer)
	fd, err := unix.MemfdCreate("guest", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	g.fd = fd
	if err := unix.Ftruncate(fd, int64(size)); err != nil {
		return nil, err
	}
	if g.mem, err = unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return nil, err
	}
	for i, r := range []*guestVring{&g.in, &g.out} {
		at := i * size / 2
		*r = guestVring{g: g, desc: at, avail: at + ringBytes/3, used: at + 2*ringBytes/3, buffers: at + ringBytes}
		if r.kick, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
			return nil, err
		}
		if r.call, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
			return nil, err
		}
		for k := range guestRing {
			d := g.mem[r.desc+k*ringDescLen:]
			binary.LittleEndian.PutUint64(d, guestPhysical+uint64(r.buffers+k*guestBuffer))
			if r == &g.in {
				binary.LittleEndian.PutUint32(d[8:], guestBuffer)
				binary.LittleEndian.PutUint16(d[12:], ringWrite)
				binary.LittleEndian.PutUint16(g.mem[r.avail+4+2*k:], uint16(k))
			}
		}
	}
	g.in.next = guestRing
	g.in.publish()
	g.out.publish()
	return g, g.connect()
}

func (g *vhostGuest) close() {
	g.conn.Close()
	unix.Munmap(g.mem)
	for _, fd := range []int{g.fd, g.in.kick, g.in.call, g.out.kick, g.out.call} {
		unix.Close(fd)
	}
}

// send sends a message.
func (g *vhostGuest) send(request uint32, payload []byte, fds ...int) error {
	b := binary.LittleEndian.AppendUint32(nil, request)
	b = binary.LittleEndian.AppendUint32(b, vhostVersion)
	b = append(binary.LittleEndian.AppendUint32(b, uint32(len(payload))), payload...)
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	_, _, err := g.conn.WriteMsgUnix(b, oob, nil)
	return err
}

// connect tells the device about the guest.
func (g *vhostGuest) connect() error {
	words := func(v ...uint32) (b []byte) {
		for _, w := range v {
			b = binary.LittleEndian.AppendUint32(b, w)
		}
		return b
	}
	quads := func(v ...uint64) (b []byte) {
		for _, w := range v {
			b = binary.LittleEndian.AppendUint64(b, w)
		}
		return b
	}
	if err := g.send(vhostGetFeatures, nil); err != nil {
		return err
	}
	g.conn.SetReadDeadline(time.Now().Add(vhostPatience))
	var answer [20]byte
	if n, err := g.conn.Read(answer[:]); err != nil || n != len(answer) {
		return fmt.Errorf("features: %d bytes, %w", n, err)
	}
	if binary.LittleEndian.Uint64(answer[12:])&guestVersion1 == 0 {
		return errors.New("the device does not know virtio 1")
	}
	err := errors.Join(
		g.send(vhostSetOwner, nil),
		g.send(vhostSetFeatures, quads(guestVersion1)),
		g.send(vhostSetMemTable, append(words(1, 0), quads(guestPhysical, uint64(len(g.mem)), guestUser, 0)...), g.fd))
	for i, r := range []*guestVring{&g.in, &g.out} {
		n := uint32(i)
		err = errors.Join(err,
			g.send(vhostSetNum, words(n, guestRing)),
			g.send(vhostSetBase, words(n, 0)),
			g.send(vhostSetAddr, append(words(n, 0), quads(guestUser+uint64(r.desc), guestUser+uint64(r.used), guestUser+uint64(r.avail), 0)...)),
			g.send(vhostSetCall, quads(uint64(i)), r.call),
			g.send(vhostSetKick, quads(uint64(i)), r.kick))
	}
	return err
}

// word is the flags and the index of a ring, which lie in one word.
func (r *guestVring) word(at int) *uint32 { return (*uint32)(unsafe.Pointer(&r.g.mem[at])) }

// publish makes chains up to next available, and notifies the device if it sleeps.
func (r *guestVring) publish() {
	atomic.StoreUint32(r.word(r.avail), uint32(r.next)<<16|ringNoInterrupt)
	if atomic.LoadUint32(r.word(r.used))&ringNoNotify == 0 {
		unix.Write(r.kick, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	}
}

// pop returns the next used chain and its length.
func (r *guestVring) pop() (id, n int, ok bool) {
	if uint16(atomic.LoadUint32(r.word(r.used))>>16) == r.seen {
		return 0, 0, false
	}
	e := r.g.mem[r.used+4+8*(int(r.seen)%guestRing):]
	r.seen++
	return int(binary.LittleEndian.Uint32(e)), int(binary.LittleEndian.Uint32(e[4:])), true
}

func (r *guestVring) buffer(id int) []byte { return r.g.mem[r.buffers+id*guestBuffer:][:guestBuffer] }

// push makes a descriptor available.
func (r *guestVring) push(id int) {
	binary.LittleEndian.PutUint16(r.g.mem[r.avail+4+2*(int(r.next)%guestRing):], uint16(id))
	r.next++
	r.publish()
}

// transmit sends a frame. One frame at most is on its way, so there is room.
func (g *vhostGuest) transmit(frame []byte) {
	for _, _, ok := g.out.pop(); ok; _, _, ok = g.out.pop() {
	}
	id := int(g.out.next) % guestRing
	b := g.out.buffer(id)
	clear(b[:guestNetHdr])
	n := guestNetHdr + copy(b[guestNetHdr:], frame)
	binary.LittleEndian.PutUint32(g.mem[g.out.desc+id*ringDescLen+8:], uint32(n))
	g.out.push(id)
}

// receive looks for a frame; it is in received until the next call.
func (g *vhostGuest) receive() bool {
	id, n, ok := g.in.pop()
	if !ok || n < guestNetHdr || n > guestBuffer || id >= guestRing {
		return false
	}
	g.received = append(g.received[:0], g.in.buffer(id)[guestNetHdr:n]...)
	g.in.push(id)
	return true
}

// vhostTrips is two guests on one CPU: "dial" or "listen", and the sockets. For each line that it reads, a
// duration, it writes what pingPong does, for a frame of 64 bytes from one guest to the other and back.
func vhostTrips(args []string) error {
	var guests []*vhostGuest
	var listeners []*net.UnixListener
	if args[0] == "listen" {
		for _, path := range args[1:] {
			l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
			if err != nil {
				return err
			}
			listeners = append(listeners, l)
		}
		fmt.Println("listens")
	}
	for i, path := range args[1:] {
		var c *net.UnixConn
		var err error
		if listeners != nil {
			c, err = listeners[i].AcceptUnix()
		} else {
			c, err = net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
		}
		if err != nil {
			return err
		}
		g, err := newVhostGuest(c)
		if err != nil {
			return err
		}
		guests = append(guests, g)
	}
	a, _ := ports.ParseMAC(macA)
	b, _ := ports.ParseMAC(macB)
	there := load{size: 64}.frame(pairOf(b, a))
	back := load{size: 64}.frame(pairOf(a, b))
	fmt.Println("ready")
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		d, err := time.ParseDuration(in.Text())
		if err != nil {
			return err
		}
		v := trips(guests[0], guests[1], there, back, d)
		if len(v) == 0 {
			fmt.Println(0, 0, 0, 0)
			continue
		}
		slices.Sort(v)
		fmt.Println(v[len(v)/2], v[len(v)*9/10], v[len(v)*99/100], len(v))
	}
	return in.Err()
}

// trips returns the times in µs in which frames went there and came back, but for those of the first
// tenth.
func trips(a, b *vhostGuest, there, back []byte, d time.Duration) (v []float64) {
	const patience = time.Second // with what is kept off its CPU
	v = make([]float64, 0, 1<<20)
	begin := time.Now()
	for len(v) < cap(v) {
		for a.receive() || b.receive() { // what came too late
		}
		start := time.Now()
		if start.Sub(begin) > d {
			break
		}
		a.transmit(there)
		for spin, answered := 1, false; ; spin++ {
			if b.receive() && !answered {
				answered = true
				b.transmit(back)
			}
			if a.receive() && answered {
				if start.Sub(begin) > d/10 {
					v = append(v, float64(time.Since(start).Nanoseconds())/1000)
				}
				break
			}
			if spin%1024 == 0 {
				if time.Since(start) > patience {
					break // lost
				}
				runtime.Gosched() // to a switch in the same process
			}
		}
	}
	return v
}

// plugPinger starts guests between which a frame goes to and fro when they are asked.
func (r *vhostRow) plugPinger(s *vhostSwitch) error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	how := choose(s.listens, "dial", "listen")
	c := exec.Command(exe, how, r.socket(s, 0), r.socket(s, 1))
	c.Env = append(os.Environ(), toolEnv+"=vhost-trips", "GOMAXPROCS=1")
	if s.ask, err = c.StdinPipe(); err != nil {
		return err
	}
	if s.pinger, err = launch(c, guestCPU); err != nil {
		return err
	}
	defer time.AfterFunc(testpmdStart, func() { s.pinger.cmd.Process.Kill() }).Stop()
	for l := ""; l != "ready"; {
		if l, err = s.pinger.line(); err != nil {
			return err
		}
	}
	// Guests and switch may not have come to terms yet.
	_, _, err = s.someRoundTrips(200*time.Millisecond, testpmdStart)
	return err
}

// someRoundTrips has frames go to and fro until some come back.
func (s *vhostSwitch) someRoundTrips(d, patience time.Duration) (v []float64, waited float64, err error) {
	for end := time.Now().Add(patience); ; {
		if v, waited, err = s.roundTrips(d); err != nil || v[3] > 0 {
			return v, waited, err
		}
		if time.Now().After(end) {
			return nil, waited, errNoFrames
		}
	}
}

// roundTrips has frames go to and fro.
func (s *vhostSwitch) roundTrips(d time.Duration) (v []float64, waited float64, err error) {
	s.resume()
	defer s.pause()
	watch := newWaitWatch(s.daemon, s.pinger)
	defer time.AfterFunc(d+testpmdAnswer, func() { s.pinger.cmd.Process.Kill() }).Stop()
	if _, err := fmt.Fprintln(s.ask, d); err != nil {
		return nil, 0, err
	}
	l, err := s.pinger.line()
	if err != nil {
		return nil, 0, err
	}
	v, err = parseNumbers(l)
	if err == nil && len(v) != 4 {
		err = fmt.Errorf("vhost-trips: %s", l)
	}
	return v, watch.waited(), err
}

// measureTrips gives the median, the 90th and the 99th percentile of the way there and back in µs.
func (r *vhostRow) measureTrips(s *vhostSwitch, d time.Duration) (sample, error) {
	return r.placed(func() ([]float64, float64, error) {
		v, waited, err := s.someRoundTrips(d, vhostPatience)
		if errors.Is(err, errNoFrames) && s.id != "ours" {
			v, err = []float64{math.NaN(), math.NaN(), math.NaN(), 0}, nil // no figure is no reason to lose ours
		}
		return v, waited, err
	})
}
