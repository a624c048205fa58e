package main

import (
	"bytes"
	"encoding/binary"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hvswitch/hvswitch/ports"
)

func TestVhostFrames(t *testing.T) {
	for _, l := range []vhostLoad{
		{size: 64, flows: 64, macs: 1}, {size: 64, flows: 20000, macs: 1}, {size: 1500, flows: 64, macs: 4000},
	} {
		flows, macs := map[uint16]bool{}, map[string]bool{}
		for _, f := range l.frames() {
			if len(f) != l.size {
				t.Fatalf("%+v: a frame of %d bytes", l, len(f))
			}
			macs[string(f[6:12])] = true
			flows[binary.BigEndian.Uint16(f[ethLen+ipLen:])] = true
		}
		if len(flows) != l.flows || len(macs) != l.macs {
			t.Errorf("%+v: %d flows, %d source addresses", l, len(flows), len(macs))
		}
	}
}

func TestTripsBetweenGuests(t *testing.T) {
	dir := t.TempDir()
	paths := []string{filepath.Join(dir, "0"), filepath.Join(dir, "1")}
	h, err := vhostSwitchAt(paths)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	a, _ := ports.ParseMAC(macA)
	b, _ := ports.ParseMAC(macB)
	var guests []*vhostGuest
	for _, p := range paths {
		c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: p, Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		g, err := newVhostGuest(c)
		if err != nil {
			t.Fatal(err)
		}
		defer g.close()
		guests = append(guests, g)
	}
	there, back := load{size: 64}.frame(pairOf(b, a)), load{size: 64}.frame(pairOf(a, b))
	var v []float64
	for end := time.Now().Add(30 * time.Second); len(v) < 2*guestRing && time.Now().Before(end); {
		v = append(v, trips(guests[0], guests[1], there, back, 100*time.Millisecond)...)
	}
	if len(v) < 2*guestRing {
		t.Fatalf("%d round trips", len(v))
	}
	if !bytes.Equal(guests[0].received, back) || !bytes.Equal(guests[1].received, there) {
		t.Errorf("received %x and %x", guests[0].received, guests[1].received)
	}
}

func TestPcap(t *testing.T) {
	path := filepath.Join(t.TempDir(), "p")
	if err := writePcap(path, [][]byte{make([]byte, 64), make([]byte, 100)}); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const header, record = 24, 16
	if want := header + record + 64 + record + 100; len(b) != want {
		t.Errorf("%d bytes, want %d", len(b), want)
	}
	if n := binary.LittleEndian.Uint32(b[header+record+64+8:]); n != 100 {
		t.Errorf("the second frame has %d bytes, want 100", n)
	}
}
