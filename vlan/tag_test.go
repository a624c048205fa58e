package vlan_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/vlan"
)

func TestEveryTCIDecodesAndEncodesBack(t *testing.T) {
	for tci := range 1 << 16 {
		tci := uint16(tci)
		tag := vlan.TagOf(tci)
		want := vlan.Tag{VID: tci % 4096, PCP: uint8(tci / 8192), DEI: tci/4096%2 == 1}
		if tag != want || tag.TCI() != tci || vlan.VID(tci) != tag.VID {
			t.Fatalf("%#04x: %+v, want %+v, back to %#04x", tci, tag, want, tag.TCI())
		}
	}
}

func TestTCIIgnoresBitsThatDoNotFit(t *testing.T) {
	require.Equal(t, uint16(0xf001), vlan.Tag{VID: 0x9001, PCP: 0xff, DEI: true}.TCI())
}

func TestOnlyTheTwoTPIDsBeginATag(t *testing.T) {
	for etherType := range 1 << 16 {
		want := etherType == 0x8100 || etherType == 0x88a8
		if vlan.IsTPID(uint16(etherType)) != want {
			t.Fatalf("%#04x: %v", etherType, !want)
		}
	}
}
