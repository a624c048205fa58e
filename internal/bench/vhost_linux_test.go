package main

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"
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
