package ports

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseMAC(t *testing.T) {
	want := MAC{0x02, 0x00, 0x5e, 0x10, 0x00, 0xff}
	for _, s := range []string{"02:00:5e:10:00:ff", "02:00:5E:10:00:FF", "02-00-5e-10-00-ff", "0200.5e10.00ff"} {
		got, err := ParseMAC(s)
		require.NoError(t, err, s)
		require.Equal(t, want, got, s)
	}
	for s, says := range map[string]string{
		"":                        `MAC ""`,
		"02:00:5e:10:00":          `MAC "02:00:5e:10:00"`,
		"02:00:5e:10:00:zz":       `invalid MAC address`,
		"02:00:5e:10:00:00:00:01": `has 64 bits, 48 are needed`,
		"2:0:5e:10:0:1":           `MAC "2:0:5e:10:0:1"`,
	} {
		got, err := ParseMAC(s)
		require.ErrorContains(t, err, says)
		require.Zero(t, got)
	}
}

func TestMACKinds(t *testing.T) {
	for _, c := range []struct {
		mac                  string
		zero, group, unicast bool
	}{
		{"00:00:00:00:00:00", true, false, false},
		{"ff:ff:ff:ff:ff:ff", false, true, false},
		{"01:80:c2:00:00:00", false, true, false},
		{"33:33:00:00:00:01", false, true, false},
		{"02:00:00:00:00:01", false, false, true},
		{"00:15:5d:00:00:01", false, false, true},
	} {
		m, err := ParseMAC(c.mac)
		require.NoError(t, err)
		require.Equal(t, c.zero, m.IsZero(), c.mac)
		require.Equal(t, c.group, m.IsGroup(), c.mac)
		require.Equal(t, c.unicast, m.IsUnicast(), c.mac)
		require.Equal(t, c.mac, m.String())
	}
	require.Equal(t, "ff:ff:ff:ff:ff:ff", Broadcast.String())
}

func TestMACText(t *testing.T) {
	type settings struct {
		MAC   MAC
		Ports map[MAC]int
	}
	in := settings{MAC: MAC{2, 0, 0, 0, 0, 1}, Ports: map[MAC]int{Broadcast: 1}}
	text, err := json.Marshal(in)
	require.NoError(t, err)
	require.JSONEq(t, `{"MAC":"02:00:00:00:00:01","Ports":{"ff:ff:ff:ff:ff:ff":1}}`, string(text))
	var out settings
	require.NoError(t, json.Unmarshal(text, &out))
	require.Equal(t, in, out)

	m := MAC{1, 2, 3, 4, 5, 6}
	require.Error(t, m.UnmarshalText([]byte("nonsense")))
	require.Equal(t, MAC{1, 2, 3, 4, 5, 6}, m, "a text that is refused changes nothing")
}
