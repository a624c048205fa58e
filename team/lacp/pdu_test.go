package lacp

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
)

var samplePDU = PDU{
	Actor: PortInfo{
		System: SystemID{Priority: 0x8000, MAC: ports.MAC{2, 1, 2, 3, 4, 5}},
		Key:    0x1122,
		Port:   PortID{Priority: 0x80, Number: 3},
		State:  Activity | Aggregation | Synchronization | Collecting | Distributing,
	},
	Partner: PortInfo{
		System: SystemID{Priority: 1, MAC: ports.MAC{2, 9, 9, 9, 9, 9}},
		Key:    5,
		Port:   PortID{Priority: 0xff, Number: 77},
		State:  ShortTimeout | Defaulted,
	},
	MaxDelay: 50,
}

// sampleBytes is the same after figure 6-7 of IEEE 802.1AX-2014.
func sampleBytes() []byte {
	b := []byte{
		1, 1,
		1, 20, 0x80, 0, 2, 1, 2, 3, 4, 5, 0x11, 0x22, 0, 0x80, 0, 3, 0x3d, 0, 0, 0,
		2, 20, 0, 1, 2, 9, 9, 9, 9, 9, 0, 5, 0, 0xff, 0, 77, 0x42, 0, 0, 0,
		3, 16, 0, 50, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
	}
	return append(b, make([]byte, 110-len(b))...)
}

func TestPDU(t *testing.T) {
	require.Equal(t, sampleBytes(), samplePDU.Append(nil))
	got, err := ParsePDU(sampleBytes())
	require.NoError(t, err)
	require.Equal(t, samplePDU, got)
	require.Equal(t, "active aggregatable in sync collecting distributing", got.Actor.State.String())
}

func TestPDUOfVersion2(t *testing.T) {
	b := sampleBytes()
	b[1] = 2
	copy(b[58:], []byte{4, 4, 0, 1, 5, 6, 0, 0, 0, 0, 6, 28})
	got, err := ParsePDU(append(b, make([]byte, 500)...))
	require.NoError(t, err)
	require.Equal(t, samplePDU, got)

	want := samplePDU
	want.MaxDelay = 0
	got, err = ParsePDU(b[:42])
	require.NoError(t, err)
	require.Equal(t, want, got)
}

func TestBadPDU(t *testing.T) {
	for name, c := range map[string]struct {
		change func(b []byte) []byte
		err    error
	}{
		"empty":                   {func(b []byte) []byte { return nil }, ErrShort},
		"marker":                  {func(b []byte) []byte { b[0] = 2; return b }, ErrSubtype},
		"no actor":                {func(b []byte) []byte { b[2] = 2; return b }, ErrTLV},
		"short actor":             {func(b []byte) []byte { b[3] = 18; return b }, ErrTLV},
		"partner cut off":         {func(b []byte) []byte { return b[:41] }, ErrShort},
		"partner of wrong length": {func(b []byte) []byte { b[23] = 0; return b }, ErrTLV},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParsePDU(c.change(sampleBytes()))
			require.ErrorIs(t, err, c.err)
		})
	}
}

func TestMarker(t *testing.T) {
	m := Marker{Response: true, Port: 0x0102, System: ports.MAC{2, 3, 4, 5, 6, 7}, Transaction: 0x0a0b0c0d}
	b := m.Append(nil)
	require.Len(t, b, PDULen)
	require.Equal(t, []byte{2, 1, 2, 16, 1, 2, 2, 3, 4, 5, 6, 7, 10, 11, 12, 13}, b[:16])
	got, err := ParseMarker(b)
	require.NoError(t, err)
	require.Equal(t, m, got)
	_, err = ParseMarker(b[:17])
	require.ErrorIs(t, err, ErrShort)
	_, err = ParseMarker(sampleBytes())
	require.ErrorIs(t, err, ErrSubtype)
	b[2] = 3
	_, err = ParseMarker(b)
	require.ErrorIs(t, err, ErrTLV)
}

func FuzzParse(f *testing.F) {
	f.Add(sampleBytes())
	m := Marker{Port: 1}
	f.Add(m.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := ParsePDU(b); err == nil {
			again, err := ParsePDU(p.Append(nil))
			require.NoError(t, err)
			require.Equal(t, p, again)
		}
		if m, err := ParseMarker(b); err == nil {
			require.True(t, bytes.Equal(m.Append(nil)[2:16], b[2:16]))
		}
	})
}

// FuzzMachine lets a hostile partner do what it likes with two ports.
func FuzzMachine(f *testing.F) {
	f.Add([]byte{0, 0, 1, 2, 3, 4, 5, 6, 7, 8}, false)
	f.Add(bytes.Repeat([]byte{3, 0xff, 5, 20}, 50), true)
	f.Add([]byte{4, 0, 4, 1, 12, 0, 12, 8, 13, 1, 255, 12, 0, 12, 8}, false)
	f.Fuzz(func(t *testing.T, script []byte, passive bool) {
		l := newLab(t)
		a := l.system(1, 2, Config{Passive: passive, MaxPorts: len(script) % 3})
		next := func() byte {
			if len(script) == 0 {
				return 0
			}
			b := script[0]
			script = script[1:]
			return b
		}
		heard := map[*Port]bool{}
		for len(script) > 0 {
			op := next()
			p := a.Ports()[op>>3&1]
			switch op & 7 {
			case 0, 1:
				l.now += time.Duration(next()) * 20 * time.Millisecond
				a.Advance(l.now)
			case 2:
				p.SetLink(l.now, next()&1 != 0, uint64(next())*1e7)
			case 3:
				n := int(next())
				p.Receive(l.now, script[:min(n, len(script))])
			case 4: // a partner that agrees with whatever we say
				pdu := PDU{Actor: PortInfo{
					System: SystemID{MAC: ports.MAC{2, 9}},
					State:  State(next()) | Aggregation,
				}, Partner: p.actor}
				p.Receive(l.now, pdu.Append(nil))
				heard[p] = true
			case 5:
				pdu := PDU{Actor: p.actor}
				pdu.Actor.State = State(next())
				pdu.Actor.System.MAC[5] = next() % 3
				binary.BigEndian.PutUint16(pdu.Partner.System.MAC[:], uint16(next()))
				p.Receive(l.now, pdu.Append(nil))
				heard[p] = true
			case 6:
				m := Marker{Response: next()&1 != 0}
				p.Receive(l.now, m.Append(nil))
			case 7:
				l.exchange()
			}
			used := 0
			for _, p := range a.Ports() {
				s := p.Status()
				if p.Distributing() {
					used++
					require.True(t, p.Collecting())
				}
				if p.Collecting() {
					require.True(t, p.up && s.Partner.State.Has(Synchronization) && s.Actor.State.Has(Synchronization))
					require.Equal(t, Selected, s.Selection)
					require.Equal(t, ReceiveCurrent, s.Receive)
					require.False(t, s.Looped)
				}
				if p.Distributing() {
					require.True(t, s.Partner.State.Has(Collecting))
				}
				require.LessOrEqual(t, len(p.answers), maxMarkers)
				require.False(t, !p.up && p.Collecting())
			}
			if a.cfg.MaxPorts > 0 {
				require.LessOrEqual(t, used, a.cfg.MaxPorts)
			}
			require.LessOrEqual(t, len(l.sent), 2)
		}
		for p, at := range l.sent {
			require.True(t, !passive || heard[p], "a passive port speaks first")
			for i := range at[min(maxSent, len(at)):] {
				require.GreaterOrEqual(t, at[i+maxSent]-at[i], fastPeriodic)
			}
		}
	})
}
