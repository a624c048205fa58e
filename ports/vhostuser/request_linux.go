package vhostuser

import (
	"encoding/binary"
	"errors"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/hvswitch/hvswitch/ports"
)

var (
	errRequest  = errors.New("request is not known")
	errFeatures = errors.New("features were not offered")
	errRing     = errors.New("no such ring")
	errMTU      = errors.New("MTU is out of 68–65535")
	errRARP     = errors.New("address is not that of a station")
	errSocket   = errors.New("descriptor is not a socket")
	errLogFD    = errors.New("dirty log without a file")
)

// handler says how a request is handled.
type handler struct {
	payload int  // length; -1 is for the handler to check
	replies bool // has an answer of its own
	handle  func(*session, *message) error
}

var handlers = map[request]handler{
	reqGetFeatures:         {0, true, (*session).getFeatures},
	reqSetFeatures:         {8, false, (*session).setFeatures},
	reqSetOwner:            {0, false, (*session).nothing},
	reqResetOwner:          {0, false, (*session).nothing}, // deprecated, and used with other meanings
	reqSetMemTable:         {-1, false, (*session).setMemTable},
	reqSetLogBase:          {16, true, (*session).setLogBase},
	reqSetLogFD:            {0, false, (*session).nothing},
	reqSetVringNum:         {8, false, (*session).setVringNum},
	reqSetVringAddr:        {40, false, (*session).setVringAddr},
	reqSetVringBase:        {8, false, (*session).setVringBase},
	reqGetVringBase:        {8, true, (*session).getVringBase},
	reqSetVringKick:        {8, false, (*session).setVringKick},
	reqSetVringCall:        {8, false, (*session).setVringCall},
	reqSetVringErr:         {8, false, (*session).setVringErr},
	reqGetProtocolFeatures: {0, true, (*session).getProtocolFeatures},
	reqSetProtocolFeatures: {8, false, (*session).setProtocolFeatures},
	reqGetQueueNum:         {0, true, (*session).getQueueNum},
	reqSetVringEnable:      {8, false, (*session).setVringEnable},
	reqSendRARP:            {8, false, (*session).sendRARP},
	reqNetSetMTU:           {8, false, (*session).netSetMTU},
	reqSetBackendReqFD:     {0, false, (*session).setBackendReqFD},
	reqGetConfig:           {-1, true, (*session).answerConfig},
	reqSetConfig:           {-1, false, (*session).nothing}, // nothing in it is the driver's to set
	reqGetInflightFD:       {-1, true, (*session).getInflightFD},
	reqSetInflightFD:       {-1, false, (*session).setInflightFD},
	reqResetDevice:         {0, false, (*session).resetDevice},
	reqGetMaxMemSlots:      {0, true, (*session).getMaxMemSlots},
	reqAddMemReg:           {8 + regionLen, false, (*session).addMemReg},
	reqRemMemReg:           {8 + regionLen, false, (*session).remMemReg},
}

func (s *session) nothing(*message) error { return nil }

func (s *session) getFeatures(m *message) error { return s.replyU64(m, s.dev.cfg.features()) }

func (s *session) setFeatures(m *message) error {
	f := m.u64(0)
	if f&^s.dev.cfg.features() != 0 {
		return errFeatures
	}
	changed := f ^ s.features
	for _, v := range s.dev.rings {
		v.mu.Lock()
		running := v.running
		v.mu.Unlock()
		if running && changed&^featLogAll != 0 {
			return errRingRuns
		}
	}
	s.features = f
	for _, v := range s.dev.rings {
		_ = s.with(v, func() error {
			s.configure(v)
			if f&featProtocol == 0 {
				v.enabled = true // vhost-user, "Ring states"
			}
			return nil
		})
	}
	return nil
}

// configure gives a locked ring what follows from features, log, in-flight buffer and MTU.
func (s *session) configure(v *ring) {
	host, guest := offloadsOf(s.features)
	v.features = s.features
	v.guestTakes = guest & s.dev.info.Offloads
	v.mtu = min(s.mtu, s.dev.info.MTU)
	v.log = nil
	if s.features&featLogAll != 0 {
		v.log = s.log
	}
	if !v.running {
		v.inflight = s.inflight.ring(v.index)
	}
	if v.index%2 == 1 {
		s.dev.rxs[v.index/2].mayAsk = host
	}
}

func (s *session) configureAll() {
	for _, v := range s.dev.rings {
		v.mu.Lock()
		s.configure(v)
		v.mu.Unlock()
	}
}

func (s *session) getProtocolFeatures(m *message) error { return s.replyU64(m, s.dev.cfg.protocol()) }

func (s *session) setProtocolFeatures(m *message) error {
	if m.u64(0)&^s.dev.cfg.protocol() != 0 {
		return errFeatures
	}
	s.protocol = m.u64(0)
	s.dev.mu.Lock()
	s.tellsBack = s.protocol&(protoBackend|protoConfig) == protoBackend|protoConfig
	s.dev.mu.Unlock()
	return nil
}

func (s *session) getQueueNum(m *message) error { return s.replyU64(m, uint64(s.dev.cfg.Queues)) }

func (s *session) getMaxMemSlots(m *message) error { return s.replyU64(m, maxSlots) }

// setMemTable replaces all memory regions.
func (s *session) setMemTable(m *message) error {
	if len(m.payload) < 8 {
		return errPayload
	}
	n := int(m.u32(0))
	if n > maxTable || len(m.payload) < 8+n*regionLen {
		return errPayload
	}
	if len(m.fds) != n {
		return errNoFD
	}
	var all []*region
	for i, fd := range m.fds {
		r, err := mapRegion(m.region(8+i*regionLen), fd)
		if err != nil {
			unmapAll(all)
			return err
		}
		all = append(all, r)
	}
	mem, err := newMemory(all)
	if err != nil {
		unmapAll(all)
		return err
	}
	return s.setMemory(mem)
}

func unmapAll(regions []*region) {
	for _, r := range regions {
		_ = unix.Munmap(r.mapping)
	}
}

// addMemReg adds a region. QEMU before 8.0 does that once for each pair of queues.
func (s *session) addMemReg(m *message) error {
	if len(m.fds) != 1 {
		return errNoFD
	}
	r, err := mapRegion(m.region(8), m.fds[0])
	if err != nil {
		return err
	}
	if slices.ContainsFunc(s.regions(), r.same) {
		unmapAll([]*region{r})
		return nil
	}
	mem, err := newMemory(append(s.regions(), r))
	if err != nil {
		unmapAll([]*region{r})
		return err
	}
	return s.setMemory(mem)
}

// remMemReg removes a region, perhaps again, see addMemReg.
func (s *session) remMemReg(m *message) error {
	gone := m.region(8)
	var left []*region
	all := s.regions()
	for _, r := range all {
		if r.guest != gone.guest || r.size != gone.size || r.user != gone.user {
			left = append(left, r)
		}
	}
	if len(left) == len(all) {
		return nil
	}
	mem, err := newMemory(left)
	if err != nil {
		return err
	}
	return s.setMemory(mem)
}

func (s *session) setLogBase(m *message) error {
	if s.protocol&protoLogShmFD == 0 || len(m.fds) != 1 {
		return errLogFD
	}
	l, err := mapLog(m.fds[0], m.u64(0), m.u64(8))
	if err != nil {
		return err
	}
	was := s.log
	s.log = l
	s.configureAll()
	was.unmap()
	return s.replyU64(m, 0)
}

// ring returns the ring that a message is for.
func (s *session) ring(index uint32) (*ring, error) {
	if index >= uint32(len(s.dev.rings)) {
		return nil, errRing
	}
	return s.dev.rings[index], nil
}

// setVring changes the ring that the first field of a message names, which must not run.
func (s *session) setVring(m *message, set func(*ring) error) error {
	v, err := s.ring(m.u32(0))
	if err != nil {
		return err
	}
	return s.with(v, func() error {
		if v.running {
			return errRingRuns
		}
		return set(v)
	})
}

func (s *session) setVringNum(m *message) error {
	return s.setVring(m, func(v *ring) error {
		n := m.u32(4)
		if n == 0 || n > maxRing {
			return errRingSize
		}
		v.size, v.usedList = n, nil
		return nil
	})
}

func (s *session) setVringBase(m *message) error {
	return s.setVring(m, func(v *ring) error {
		v.base = m.u32(4)
		return nil
	})
}

// setVringAddr may come while the ring runs, to log its used ring or no longer.
func (s *session) setVringAddr(m *message) error {
	v, err := s.ring(m.u32(0))
	if err != nil {
		return err
	}
	return s.with(v, func() error {
		v.address = ringAddress{
			set:     true,
			logUsed: m.u32(4)&1 != 0,
			desc:    m.u64(8), used: m.u64(16), avail: m.u64(24), log: m.u64(32),
		}
		if !v.running {
			return nil
		}
		v.drop()
		err := v.resolve()
		if err != nil {
			v.violate(err)
		}
		return err
	})
}

func (s *session) setVringEnable(m *message) error {
	v, err := s.ring(m.u32(0))
	if err != nil {
		return err
	}
	return s.with(v, func() error {
		v.enabled = m.u32(4) != 0
		return nil
	})
}

// getVringBase stops a ring.
func (s *session) getVringBase(m *message) error {
	v, err := s.ring(m.u32(0))
	if err != nil {
		return err
	}
	s.closeKick(v.index)
	base := s.halt(v)
	b := binary.LittleEndian.AppendUint32(nil, uint32(v.index))
	return s.reply(m, binary.LittleEndian.AppendUint32(b, base), -1)
}

// halt stops a ring, when the frames that are lent from it are back, and returns its position.
func (s *session) halt(v *ring) uint32 {
	v.calm()
	v.stop()
	v.kicked, v.broken = false, false
	base := v.base
	v.mu.Unlock()
	s.settle(v)
	return base
}

func (s *session) resetDevice(*message) error {
	for _, v := range s.dev.rings {
		s.closeKick(v.index)
		s.halt(v)
		_ = s.with(v, func() error {
			v.enabled = s.features&featProtocol == 0
			return nil
		})
	}
	return nil
}

// eventFD returns the eventfd of a message and its ring. The descriptor is -1 when there is none
// (VHOST_USER_VRING_NOFD_MASK).
func (s *session) eventFD(m *message) (*ring, int, error) {
	const noFD = 1 << 8
	v, err := s.ring(uint32(m.u64(0) & 0xff))
	if err != nil || m.u64(0)&noFD != 0 {
		return v, -1, err
	}
	fd, err := m.takeFD()
	if err == nil {
		err = adoptEventFD(fd)
	}
	return v, fd, err
}

// setVringKick starts a ring.
func (s *session) setVringKick(m *message) error {
	v, fd, err := s.eventFD(m)
	if err != nil {
		return err
	}
	s.closeKick(v.index)
	switch {
	case v.index%2 == 0: // we look for buffers when we need some
		if fd >= 0 {
			unix.Close(fd)
		}
	case fd < 0:
		s.kicks[v.index/2] = tickKick(&s.dev.rxs[v.index/2].bell)
	default:
		k, err := listenKick(fd, &s.dev.rxs[v.index/2].bell)
		if err != nil {
			return err
		}
		s.kicks[v.index/2] = k
	}
	return s.with(v, func() error {
		v.kicked, v.broken = true, false
		return nil
	})
}

func (s *session) setVringCall(m *message) error {
	v, fd, err := s.eventFD(m)
	if err != nil {
		return err
	}
	return s.with(v, func() error {
		v.replaceFD(&v.call, fd)
		if fd >= 0 && v.running {
			signal(fd) // what was signalled on the one before may not have been heard
		}
		return nil
	})
}

func (s *session) setVringErr(m *message) error {
	v, fd, err := s.eventFD(m)
	if err != nil {
		return err
	}
	return s.with(v, func() error {
		v.replaceFD(&v.errfd, fd)
		return nil
	})
}

func (v *ring) replaceFD(at *int, fd int) {
	if *at >= 0 {
		unix.Close(*at)
	}
	*at = fd
}

func (s *session) sendRARP(m *message) error {
	mac := ports.MAC(m.payload[:6])
	if !mac.IsUnicast() {
		return errRARP
	}
	s.dev.rxs[0].rarp.Store(&mac)
	s.dev.rxs[0].bell.event()
	return nil
}

func (s *session) netSetMTU(m *message) error {
	mtu := m.u64(0)
	if mtu < minMTU || mtu > maxMTU {
		return errMTU
	}
	s.mtu = int(mtu)
	s.configureAll()
	return nil
}

func (s *session) setBackendReqFD(m *message) error {
	fd, err := m.takeFD()
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		unix.Close(fd)
		return errSocket
	}
	s.dev.mu.Lock()
	defer s.dev.mu.Unlock()
	s.setBack(fd)
	return nil
}

// answerConfig answers without payload when there is no such configuration, as the protocol wants it.
func (s *session) answerConfig(m *message) error {
	if len(m.payload) < 12 || s.getConfig(m) != nil {
		return s.reply(m, nil, -1)
	}
	return nil
}

// inflightLen is the length of the in-flight description; in C it is padded.
const inflightLen = 20

func (s *session) getInflightFD(m *message) error {
	if len(m.payload) < inflightLen {
		return errPayload
	}
	rings := int(binary.LittleEndian.Uint16(m.payload[16:]))
	size := int(binary.LittleEndian.Uint16(m.payload[18:]))
	f, fd, err := newInflight(rings, size)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	defer f.unmap() // SET_INFLIGHT_FD brings it back
	b := append([]byte(nil), m.payload...)
	binary.LittleEndian.PutUint64(b, uint64(len(f.mapping)))
	binary.LittleEndian.PutUint64(b[8:], 0)
	return s.reply(m, b, fd)
}

func (s *session) setInflightFD(m *message) error {
	if len(m.payload) < inflightLen {
		return errPayload
	}
	if len(m.fds) != 1 {
		return errNoFD
	}
	for _, v := range s.dev.rings {
		v.mu.Lock()
		running := v.running
		v.mu.Unlock()
		if running {
			return errRingRuns
		}
	}
	f, err := mapInflight(m.fds[0], m.u64(0), m.u64(8),
		int(binary.LittleEndian.Uint16(m.payload[16:])), int(binary.LittleEndian.Uint16(m.payload[18:])))
	if err != nil {
		return err
	}
	was := s.inflight
	s.inflight = f
	s.configureAll()
	was.unmap()
	return nil
}
