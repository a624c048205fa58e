package vswitch

import (
	"fmt"
	"slices"
	"time"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vlan"
)

// addedAddress is where an address was added: the VLAN is not told by the key, which has the FID.
type addedAddress struct {
	vid  uint16
	port int
}

// Addresses returns the forwarding database in the order of VLAN and address.
func (s *Switch) Addresses() []Address {
	var l []Address
	snap, now := s.snap.Load(), s.host.now()
	s.fdb.each(now, func(k fdbKey, v fdbVal, moves uint32) {
		p := snap.ports.at(v.port())
		if p == nil {
			return
		}
		a := Address{MAC: storeMAC(k.mac()), VLAN: k.vid(), Port: p.name, Static: v.static(), Moves: uint64(moves)}
		if !a.Static && now > v.stamp() {
			a.Age = time.Duration(now-v.stamp()) * fdbTick
		}
		l = append(l, a)
	})
	slices.SortFunc(l, func(a, b Address) int {
		if a.VLAN != b.VLAN {
			return int(a.VLAN) - int(b.VLAN)
		}
		return slices.Compare(a.MAC[:], b.MAC[:])
	})
	return l
}

// AddAddress makes mac in a VLAN (0: untagged) a static address of a connected port: it does not age,
// and frames from it are dropped at any other port. It goes when the port is disconnected.
func (s *Switch) AddAddress(mac ports.MAC, vid uint16, port string) error {
	s.host.mu.Lock()
	defer s.host.mu.Unlock()
	p := s.portNamed(port)
	switch {
	case p == nil:
		return fmt.Errorf("switch %q: static address %s: port %q: %w", s.name, mac, port, ErrNotFound)
	case !mac.IsUnicast():
		return fmt.Errorf("switch %q: static address %s: is not the address of one station: %w", s.name, mac, ErrInvalid)
	case vid > vlan.MaxID:
		return fmt.Errorf("switch %q: static address %s: VLAN %d is out of 0–4094: %w", s.name, mac, vid, ErrInvalid)
	case !p.isIn(vid):
		return fmt.Errorf("switch %q: static address %s: port %q is not in VLAN %d: %w", s.name, mac, port, vid, ErrInvalid)
	case s.ownerOf(mac, vid) != nil:
		return fmt.Errorf("switch %q: static address %s: is that of vNIC %q: %w", s.name, mac, s.ownerOf(mac, vid).name, ErrInUse)
	}
	s.addAddress(loadMAC(mac), addedAddress{vid, p.index})
	return nil
}

func (s *Switch) addAddress(mac uint64, a addedAddress) {
	k := makeKey(mac, s.snap.Load().fids.Of(a.vid))
	if _, taken := s.added[k]; !taken {
		if _, taken = s.fdb.owner(k); taken {
			return // by a vNIC
		}
	}
	s.fdb.addStatic(k, a.port)
	if s.added == nil {
		s.added = map[fdbKey]addedAddress{}
	}
	s.added[k] = a
}

// takeAdded removes the added addresses that match and returns them.
func (s *Switch) takeAdded(match func(addedAddress) bool) map[fdbKey]addedAddress {
	taken := map[fdbKey]addedAddress{}
	for k, a := range s.added {
		if match(a) {
			taken[k] = a
			delete(s.added, k)
			s.fdb.removeKey(k)
		}
	}
	return taken
}

// RemoveAddress removes an entry, static or learned, of the forwarding database. The address of a
// vNIC cannot be removed.
func (s *Switch) RemoveAddress(mac ports.MAC, vid uint16) error {
	s.host.mu.Lock()
	defer s.host.mu.Unlock()
	if v := s.ownerOf(mac, vid); v != nil {
		return fmt.Errorf("switch %q: address %s: is that of vNIC %q: %w", s.name, mac, v.name, ErrInUse)
	}
	if vid > vlan.MaxID || !s.fdb.removeKey(s.key(mac, vid)) {
		return fmt.Errorf("switch %q: address %s in VLAN %d: %w", s.name, mac, vid, ErrNotFound)
	}
	delete(s.added, s.key(mac, vid))
	return nil
}

// key returns the key of an address in a VLAN.
func (s *Switch) key(mac ports.MAC, vid uint16) fdbKey {
	return makeKey(loadMAC(mac), s.snap.Load().fids.Of(vid))
}

// isIn reports whether the port sends to or receives from a VLAN.
func (p *portView) isIn(vid uint16) bool {
	return p.vsid == 0 && (p.vlan.Receives(vid) || p.sendsIn(vid))
}

// sendsIn reports whether untagged frames from the port are in a VLAN.
func (p *portView) sendsIn(vid uint16) bool {
	pvid, ok := p.vlan.PVID()
	return ok && pvid == vid
}

// ownerOf returns the connected vNIC with that address, or nil.
func (s *Switch) ownerOf(mac ports.MAC, vid uint16) *portView {
	if port, ok := s.fdb.owner(s.key(mac, vid)); ok {
		if p := s.snap.Load().ports.at(port); p != nil && p.mac == loadMAC(mac) {
			return p
		}
	}
	return nil
}

func (s *Switch) portNamed(name string) *portView {
	for p := range s.snap.Load().ports.all() {
		if p.name == name {
			return p
		}
	}
	return nil
}

// FlushPort forgets the addresses learned at a port.
func (s *Switch) FlushPort(name string) error {
	s.host.mu.Lock()
	defer s.host.mu.Unlock()
	p := s.portNamed(name)
	if p == nil {
		return fmt.Errorf("switch %q: port %q: %w", s.name, name, ErrNotFound)
	}
	s.flushPort(p.index)
	return nil
}

func (s *Switch) flushPort(index int) {
	s.fdb.flush(func(_ fdbKey, v fdbVal) bool { return v.port() == index })
}

// FlushVLAN forgets the addresses learned in a VLAN, and in those that share its addresses by private
// VLAN; 0 means those of untagged frames.
func (s *Switch) FlushVLAN(vid uint16) {
	fid := s.snap.Load().fids.Of(vid)
	s.fdb.flush(func(k fdbKey, _ fdbVal) bool { return k.vid() == fid })
}
