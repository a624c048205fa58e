package capture

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vswitch/extension"
)

// Whatever a guest sends and whatever becomes of it, the file has it as it was.
func FuzzFrame(f *testing.F) {
	f.Add([]byte("\x02\x00\x00\x00\x00\x01\x02\x00\x00\x00\x00\x02\x08\x00\x45"), []byte("body"), uint16(0x8100), uint16(10), uint16(128), "", "")
	f.Add([]byte{}, []byte{}, uint16(0), uint16(0), uint16(1), "runt", "drop=any")
	f.Add([]byte("\xff\xff\xff\xff\xff\xff"), []byte{1}, uint16(0x88a8), uint16(1), uint16(9000), "spoofed\xff\x00source", "vlan=untagged l4port=5")
	f.Fuzz(func(t *testing.T, head, body []byte, tpid, tci, snap uint16, reason, filter string) {
		x, err := ParseFilter(filter)
		if err != nil || len(x.Ports)+len(x.Switches) > 0 {
			return
		}
		s := newScene(t, &Config{SnapLen: int(snap), Filter: x, Buffer: MinBuffer}, "web")
		frame := frameOf(head)
		frame.AppendBody(body)
		frame.VLAN = ports.Tag{TPID: tpid, TCI: tci}
		fate := func(b *extension.Batch) {
			if reason != "" {
				b.Drop(0, reason)
			}
		}
		s.pass(in, "web", fate, frame, frame)
		r := s.close()
		limit := s.c.snapLen
		want := wire(frame)
		for i, p := range r.packets {
			require.Equal(t, len(want), p.length)
			require.True(t, bytes.Equal(want[:min(len(want), limit)], p.data))
			if i == 0 && reason != "" {
				require.Equal(t, "dropped: "+clip(reason), clip(p.comment))
			} else {
				require.Empty(t, p.comment)
			}
		}
		if filter == "" {
			require.Len(t, r.packets, 2)
		}
	})
}
