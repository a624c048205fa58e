package natsstore

import (
	"hash/crc64"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/overlay"
	"github.com/hvswitch/hvswitch/ports"
)

var (
	red  = overlay.RDID{0xed}
	blue = overlay.RDID{0xb1}

	mac = ports.MAC{2, 0, 0, 0, 0, 1}
)

// Objects with no field that is zero: one that is added later fails here until it is encoded.
func objects() []overlay.Change {
	ip6 := netip.MustParseAddr("2001:db8::1")
	return []overlay.Change{
		{Subnet: &overlay.Subnet{VSID: 5001, RDID: red, RouterMAC: mac, Learning: true, Unknown: overlay.FloodUnknown}},
		{Record: &overlay.LookupRecord{VSID: 5001, CA: ip6, MAC: mac, PA: netip.MustParseAddr("192.0.2.1"), Type: overlay.Dynamic, Rule: overlay.Geneve}},
		{Route: &overlay.CustomerRoute{RDID: red, VSID: 5001, Destination: netip.MustParsePrefix("2001:db8:1::/64"), NextHop: ip6, Metric: 1 << 30}},
	}
}

func TestEveryFieldIsEncoded(t *testing.T) {
	for _, c := range objects() {
		for _, v := range []reflect.Value{reflect.ValueOf(c.Subnet), reflect.ValueOf(c.Record), reflect.ValueOf(c.Route)} {
			for i := 0; !v.IsNil() && i < v.Elem().NumField(); i++ {
				require.False(t, v.Elem().Field(i).IsZero(), v.Elem().Type().Field(i).Name)
			}
		}
		for _, c.Delete = range []bool{false, true} {
			require.NoError(t, c.Validate())
			d := decoder{b: appendChange(nil, &c)}
			require.Equal(t, c, d.change())
			require.NoError(t, d.err)
			require.Empty(t, d.b)
		}
	}
	for _, c := range []overlay.Change{
		{Record: &overlay.LookupRecord{VSID: 5001, MAC: mac, PA: netip.MustParseAddr("2001:db8::2"), Type: overlay.L2Only}},
		{Record: &overlay.LookupRecord{VSID: 5001, CA: netip.IPv4Unspecified(), MAC: mac, PA: netip.MustParseAddr("192.0.2.1"), Type: overlay.GatewayWildcard}},
		{Route: &overlay.CustomerRoute{RDID: red, VSID: 5001, Destination: netip.MustParsePrefix("0.0.0.0/0")}},
	} {
		d := decoder{b: appendChange(nil, &c)}
		require.Equal(t, c, d.change())
		require.NoError(t, d.err)
	}
}

func transactionOf(n int) *transaction {
	t := &transaction{networks: []network{{red, 7}, {blue, 0}}}
	for i, c := range objects() {
		t.steps = append(t.steps, step{0, c})
		_ = i
	}
	for i := range n {
		t.steps = append(t.steps, step{1, overlay.Change{Record: &overlay.LookupRecord{VSID: 6001,
			CA: netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i) | 1}), MAC: mac, PA: netip.MustParseAddr("192.0.2.1")}, Delete: i%2 == 0}})
	}
	return t
}

func TestTransactionsAreCutIntoParts(t *testing.T) {
	for _, n := range []int{0, 1, 500} {
		want := transactionOf(n)
		parts, err := want.encode(9, 100, smallest)
		require.NoError(t, err)
		require.Equal(t, n == 500, len(parts) > 10)
		var payload []byte
		for i, p := range parts {
			require.LessOrEqual(t, len(p), smallest)
			m, err := decodeMessage(p)
			require.NoError(t, err)
			require.Equal(t, []uint64{9, 100, uint64(i), uint64(len(parts))}, []uint64{m.id, m.after, uint64(m.part), uint64(m.parts)})
			payload = append(payload, m.payload...)
		}
		got, err := decodeTransaction(payload)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	_, err := transactionOf(50000).encode(9, 100, smallest)
	require.ErrorContains(t, err, "too large")
}

// Whatever is changed in a message, it is refused or understood as a valid one.
func TestDamagedMessages(t *testing.T) {
	parts, err := transactionOf(20).encode(9, 100, largest)
	require.NoError(t, err)
	good := parts[0]
	r := rand.New(rand.NewPCG(1, 2))
	refused := 0
	for range 5000 {
		b := append([]byte(nil), good...)
		switch r.IntN(3) {
		case 0:
			b = b[:r.IntN(len(b))]
		case 1:
			b = append(b, byte(r.Uint32()))
		default:
			b[r.IntN(len(b))] ^= 1 << r.IntN(8)
		}
		if !understood(t, b) {
			refused++
		}
	}
	require.Greater(t, refused, 3000)
	require.True(t, understood(t, good))
}

// understood reads a message as the log and as the bucket may have it.
func understood(t *testing.T, b []byte) bool {
	m, err := decodeMessage(b)
	if err != nil || m.kind != transactionMessage {
		return err == nil
	}
	tx, err := decodeTransaction(m.payload)
	if err != nil {
		return false
	}
	for i := range tx.steps {
		c := tx.steps[i].Change
		c.Delete = false
		if err := c.Validate(); err != nil {
			t.Fatal(err)
		}
	}
	return true
}

func FuzzDecode(f *testing.F) {
	parts, _ := transactionOf(5).encode(9, 100, largest)
	f.Add(parts[0])
	f.Add(encodeCut(1, 2))
	d := newDomain(red)
	r := newReplica(true)
	for _, c := range objects() {
		r.change(d, &c)
	}
	s := snapshot{at: mark{5, 6}, payload: d.encode()}
	s.size, s.sum = uint64(len(s.payload)), crc64.Checksum(s.payload, crcTable)
	f.Add(s.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		understood(t, b)
		if s, err := decodeSnapshot(b); err == nil {
			_ = s.check()
			list, err := decodeObjects(s.payload, red)
			for i := range list {
				if err == nil && list[i].Validate() != nil {
					t.Fatal("not valid")
				}
			}
		}
	})
}
