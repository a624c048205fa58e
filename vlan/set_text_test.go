package vlan_test

import (
	"encoding/json"
	"math/rand/v2"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/vlan"
)

func TestParseSet(t *testing.T) {
	for list, want := range map[string]string{
		"":             "",
		"1":            "1",
		"4094":         "4094",
		"2-4,10":       "2-4,10",
		"10,2-4":       "2-4,10",
		"5,4,3":        "3-5",
		"7-7":          "7",
		"1,2":          "1-2",
		"1-2,3-4,6":    "1-4,6",
		"63,64,65":     "63-65",
		"1-4094":       "1-4094",
		"1-2000,4094":  "1-2000,4094",
		"2-4093":       "2-4093",
		"1,3,5,7,9-11": "1,3,5,7,9-11",
	} {
		s, err := vlan.ParseSet(list)
		require.NoError(t, err, list)
		require.Equal(t, want, s.String(), list)
	}
}

func TestParseSetSaysWhatIsWrongAndWhere(t *testing.T) {
	for list, want := range map[string]string{
		"0":             `VLAN list: "0" at character 1: VLAN 0 is out of 1–4094`,
		"4095":          `VLAN list: "4095" at character 1: VLAN 4095 is out of 1–4094`,
		"2-4,4095":      `VLAN list: "4095" at character 5: VLAN 4095 is out of 1–4094`,
		"65536":         `VLAN list: "65536" at character 1: VLAN 65536 is out of 1–4094`,
		"65546":         `VLAN list: "65546" at character 1: VLAN 65546 is out of 1–4094`,
		"2-4,,10":       `VLAN list: "" at character 5: a VLAN id is missing`,
		",":             `VLAN list: "" at character 1: a VLAN id is missing`,
		"2-4,":          `VLAN list: "" at character 5: a VLAN id is missing`,
		"2-":            `VLAN list: "2-" at character 1: a VLAN id is missing`,
		"-2":            `VLAN list: "-2" at character 1: a VLAN id is missing`,
		"2-3-4":         `VLAN list: "2-3-4" at character 1: "3-4" is not a VLAN id`,
		"1,9-8":         `VLAN list: "9-8" at character 3: the range 9-8 goes backwards`,
		"1-5,3":         `VLAN list: "3" at character 5: VLAN 3 is in the list already`,
		"3,1-5":         `VLAN list: "1-5" at character 3: VLAN 3 is in the list already`,
		"1, 2":          `VLAN list: " 2" at character 3: " 2" is not a VLAN id`,
		" ":             `VLAN list: " " at character 1: " " is not a VLAN id`,
		"+1":            `VLAN list: "+1" at character 1: "+1" is not a VLAN id`,
		"0x10":          `VLAN list: "0x10" at character 1: "0x10" is not a VLAN id`,
		"1_0":           `VLAN list: "1_0" at character 1: "1_0" is not a VLAN id`,
		"007":           `VLAN list: "007" at character 1: "007" begins with a zero`,
		"all":           `VLAN list: "all" at character 1: "all" is not a VLAN id`,
		"1;2":           `VLAN list: "1;2" at character 1: "1;2" is not a VLAN id`,
		"１":             `VLAN list: "１" at character 1: "１" is not a VLAN id`,
		"1-4094,1-4094": `VLAN list: "1-4094" at character 8: VLAN 1 is in the list already`,
	} {
		s, err := vlan.ParseSet(list)
		require.EqualError(t, err, want)
		require.Zero(t, s)
		before := setOf(9)
		require.Error(t, before.UnmarshalText([]byte(list)))
		require.Equal(t, setOf(9), before, "is unchanged")
		require.Panics(t, func() { vlan.MustParseSet(list) })
	}
}

func TestALongListMakesAShortError(t *testing.T) {
	_, err := vlan.ParseSet("1," + strings.Repeat("9", 1<<20))
	require.ErrorContains(t, err, "at character 3")
	require.Less(t, len(err.Error()), 200)
}

func TestSetTextIsCanonical(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		var s vlan.Set
		for range r.IntN(20) {
			first := edgyID(r)
			require.NoError(t, s.AddRange(first, min(4094, first+uint16(r.IntN(5)))))
		}
		back, err := vlan.ParseSet(s.String())
		require.NoError(t, err)
		require.Equal(t, s, back)
		b, err := json.Marshal(map[string]any{"vlans": s})
		require.NoError(t, err)
		require.JSONEq(t, `{"vlans":"`+s.String()+`"}`, string(b))
		var fromJSON struct{ VLANs vlan.Set }
		require.NoError(t, json.Unmarshal(b, &fromJSON))
		require.Equal(t, s, fromJSON.VLANs)
	}
}

var listSyntax = regexp.MustCompile(`^([1-9][0-9]*(-[1-9][0-9]*)?(,[1-9][0-9]*(-[1-9][0-9]*)?)*)?$`)

// slowParse is ParseSet by a regular expression and a map.
func slowParse(list string) (map[int]bool, bool) {
	ids := map[int]bool{}
	if !listSyntax.MatchString(list) {
		return nil, false
	}
	if list == "" {
		return ids, true
	}
	for _, item := range strings.Split(list, ",") {
		ends := strings.Split(item, "-")
		first, err1 := strconv.Atoi(ends[0])
		last, err2 := strconv.Atoi(ends[len(ends)-1])
		if err1 != nil || err2 != nil || last > 4094 || first > last {
			return nil, false
		}
		for id := first; id <= last; id++ {
			if ids[id] {
				return nil, false
			}
			ids[id] = true
		}
	}
	return ids, true
}

func FuzzParseSet(f *testing.F) {
	for _, list := range []string{"", "1", "2-4,10", "10,2-4", "1-4094", "4095", "0", "1,,2", "3-2", "1-5,3", "01", " 1", "99999999999999999999"} {
		f.Add(list)
	}
	f.Fuzz(func(t *testing.T, list string) {
		s, err := vlan.ParseSet(list)
		want, ok := slowParse(list)
		if ok != (err == nil) {
			t.Fatalf("%q: %v", list, err)
		}
		if s.Len() != len(want) {
			t.Fatalf("%q has %d ids, want %d", list, s.Len(), len(want))
		}
		for id := range s.All() {
			if !want[int(id)] {
				t.Fatalf("%q has %d", list, id)
			}
		}
		back, err := vlan.ParseSet(s.String())
		if err != nil || back != s {
			t.Fatalf("%q prints as %q: %v", list, s, err)
		}
	})
}
