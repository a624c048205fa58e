package capture

import (
	"encoding/json"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vlan"
	"github.com/hvswitch/hvswitch/vswitch/extension"
)

func TestFilter(t *testing.T) {
	var (
		query  = udp("10.0.0.1", "10.0.0.53", 4000, 53)
		query6 = udp("fd00::1", "fd00::53", 4000, 53)
		onTen  = tagged(udp("192.0.2.1", "10.0.0.2", 99, 100), 0xa00a)
		low    = tagged(udp("192.0.2.1", "192.0.2.2", 99, 100), 0xa000) // a priority tag
		who    = arp("10.0.0.1", "10.0.0.9")
		lldp   = frameOf([]byte{1, 0x80, 0xc2, 0, 0, 0xe, 2, 0, 0, 0, 0, 1, 0x88, 0xcc, 0})
		runt   = frameOf([]byte{2, 0, 0})
	)
	frames := []*ports.Frame{query, query6, onTen, low, who, lldp, runt}
	for text, want := range map[string][]int{
		"":                                  {0, 1, 2, 3, 4, 5, 6},
		"vlan=10":                           {2},
		"vlan=untagged":                     {0, 1, 3, 4, 5, 6},
		"vlan=1-10,untagged":                {0, 1, 2, 3, 4, 5, 6},
		"vlan=11-20":                        {},
		"mac=ff:ff:ff:ff:ff:ff":             {4},
		"mac=02:00:00:00:00:02":             {0, 1, 2, 3},
		"mac=02:00:00:00:00:01":             {0, 1, 2, 3, 4, 5},
		"ethertype=arp,0x88cc":              {4, 5},
		"ethertype=ipv6":                    {1},
		"addr=10.0.0.0/24":                  {0, 2, 4},
		"addr=10.0.0.9,fd00::53":            {1, 4},
		"addr=::ffff:10.0.0.0/120":          {0, 2, 4},
		"addr=::/0":                         {1},
		"addr=0.0.0.0/0":                    {0, 2, 3, 4},
		"addr=::/0,192.0.2.2":               {1, 3},
		"mac=02:00:00:00:00:03":             {},
		"proto=udp":                         {0, 1, 2, 3},
		"proto=tcp,17":                      {0, 1, 2, 3},
		"proto=0":                           {},
		"l4port=53":                         {0, 1},
		"l4port=4000,100":                   {0, 1, 2, 3},
		"l4port=0":                          {},
		"l4port=53 addr=10.0.0.0/8":         {0},
		"direction=ingress":                 {0, 1, 2, 3, 4, 5, 6},
		"direction=egress":                  {},
		"drop=any":                          {1, 2, 4},
		"drop=any,spoofed":                  {1, 2, 4},
		`drop="firewall: "`:                 {2, 4},
		`drop="spoofed source"`:             {1},
		`drop="spoofed source" l4port=54`:   {},
		"drop=source":                       {},
		"switch=prod port=web":              {0, 1, 2, 3, 4, 5, 6},
		"switch=test":                       {},
		"port=db,web proto=udp drop=spoof":  {1},
		"port=db":                           {},
		`port="db x",we`:                    {},
		"direction=ingress,egress vlan=10 ": {2},
	} {
		f, err := ParseFilter(text)
		require.NoError(t, err, text)
		s := newScene(t, &Config{Filter: f, SnapLen: MaxSnapLen}, "web")
		s.pass(in, "web", func(b *extension.Batch) {
			b.Drop(1, "spoofed source")
			b.Drop(2, "firewall: telnet")
			b.Drop(4, "firewall: ARP")
		}, frames...)
		got := []int{}
		for _, p := range s.close().packets {
			for i, f := range frames {
				if string(wire(f)) == string(p.data) {
					got = append(got, i)
				}
			}
		}
		require.Equal(t, want, got, text)
		if st := s.c.Stats(); len(want) > 0 {
			require.Equal(t, Stats{Received: 7, Accepted: uint64(len(want)), Written: uint64(len(want))}, st, text)
		}
	}
}

func TestPrefixesAreThoseOfNetip(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	near := func(a netip.Addr) netip.Addr { // an address that differs in one bit, or in none
		b := a.AsSlice()
		if bit := rnd.IntN(a.BitLen() + 1); bit < a.BitLen() {
			b[bit/8] ^= 0x80 >> (bit % 8)
		}
		a, _ = netip.AddrFromSlice(b)
		return a
	}
	matching := 0
	for range 20_000 {
		var b [16]byte
		for i := range b {
			b[i] = byte(rnd.Uint32())
		}
		a := netip.AddrFrom16(b)
		if rnd.IntN(2) == 0 {
			a = netip.AddrFrom4([4]byte(b[:]))
		}
		p := netip.PrefixFrom(a, rnd.IntN(a.BitLen()+1))
		m, err := compile(&Filter{Prefixes: []netip.Prefix{p}})
		require.NoError(t, err)
		src, dst := near(a), near(a)
		batch := extension.NewBatch(in, nil, nil, nil, udp(src.String(), dst.String(), 1, 2))
		want := uint64(0)
		if p.Contains(src) || p.Contains(dst) {
			want = 1
			matching++
		}
		require.Equal(t, want, m.frames(batch), "%v: %v, %v", p, src, dst)
	}
	require.Greater(t, matching, 1000)
	require.Less(t, matching, 19_000)
}

func TestFilterForDropsSeesWhatWasDroppedBeforeCapture(t *testing.T) {
	s := newScene(t, &Config{Filter: Filter{DropReasons: []string{"runt"}}}, "web")
	b := s.batch(in, "web", numbered(3, 1))
	b.Drop(0, "runt")
	s.c.Fate(b)
	require.Len(t, s.close().packets, 1)
}

// What no filter of any frame accepted in Capture is not taken for what Capture never saw.
func TestFilterJudgesFramesAsTheyCame(t *testing.T) {
	s := newScene(t, &Config{Filter: Filter{VLANs: vlan.MustParseSet("10")}}, "web")
	f := numbered(60, 1)
	s.pass(in, "web", func(b *extension.Batch) {
		f.VLAN = ports.Tag{TPID: ports.TPID8021Q, TCI: 10}
		b.Drop(0, "queue full")
	}, f)
	require.Empty(t, s.close().packets)
}

func TestFilterText(t *testing.T) {
	f := Filter{
		Switches:       []string{"prod", "a b"},
		Ports:          []string{"web,1", `"q"`, "", "ü"},
		Directions:     []extension.Direction{out},
		VLANs:          vlan.MustParseSet("2-4,10"),
		Untagged:       true,
		MACs:           []ports.MAC{ports.Broadcast},
		EtherTypes:     []uint16{0x800, 0x86dd, 0x26},
		Prefixes:       []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::1/128")},
		Protocols:      []uint8{6, 255},
		TransportPorts: []uint16{0, 443},
		Dropped:        true,
		DropReasons:    []string{"any", "firewall: telnet", "runt"},
	}
	const text = `switch=prod,"a b" port="web,1","\"q\"","","ü" direction=egress vlan=2-4,10,untagged` +
		` mac=ff:ff:ff:ff:ff:ff ethertype=ipv4,ipv6,0x0026 addr=10.0.0.0/8,fd00::1/128 proto=tcp,255 l4port=0,443` +
		` drop=any,"any","firewall: telnet",runt`
	require.Equal(t, text, f.String())
	g, err := ParseFilter(text)
	require.NoError(t, err)
	require.Equal(t, f, g)

	j, err := json.Marshal(&struct{ Filter Filter }{f})
	require.NoError(t, err)
	var back struct{ Filter Filter }
	require.NoError(t, json.Unmarshal(j, &back))
	require.Equal(t, f, back.Filter)
	require.Error(t, json.Unmarshal([]byte(`{"Filter": "colour=red"}`), &back))
	require.Equal(t, f, back.Filter)
}

func TestFilterTextThatIsWrong(t *testing.T) {
	for text, want := range map[string]string{
		"web":                       `term "web" is not of the form key=value`,
		"web port=x":                `term "web" is not of the form key=value`,
		"colour=red":                `term "colour": there is no such criterion`,
		"port=a vlan=1 port=b":      `term "port": it is there twice`,
		"port=":                     `term "port": a value is missing`,
		"port=a,":                   `term "port": a value is missing`,
		"port=a, b":                 `term "port": a value is missing`,
		`port="a`:                   `term "port": quoted value "a does not end`,
		`port="a"b`:                 `term "port": "b" is not to follow value "a"`,
		"port=a;b":                  `term "port": ";" is not to follow value "a"`,
		"direction=up":              `term "direction": "up" is neither ingress nor egress`,
		"vlan=4095":                 `term "vlan": `,
		"vlan=10,10":                `term "vlan": `,
		"mac=1.2.3.4":               `term "mac": `,
		"ethertype=70000":           `term "ethertype": "70000" is no name and no number within 0–65535`,
		"proto=gre":                 `term "proto": "gre" is no name and no number within 0–255`,
		"l4port=http":               `term "l4port": "http" is no name and no number within 0–65535`,
		"addr=10.0.0.0/33":          `term "addr": "10.0.0.0/33" is neither an IP address nor a prefix`,
		"addr=fe80::1%eth0":         `term "addr": `,
		"proto=tcp l4port=1 addr=x": `term "addr": "x" is neither`,
	} {
		_, err := ParseFilter(text)
		require.ErrorContains(t, err, want, text)
	}
}

func FuzzParseFilter(f *testing.F) {
	f.Add("port=web1,web2 vlan=10-20 addr=10.0.0.0/24 proto=tcp l4port=443 drop=any")
	f.Add(`switch="a b" drop="any","firewall: x" mac=02:00:00:00:00:01 ethertype=0x88cc direction=egress`)
	f.Fuzz(func(t *testing.T, text string) {
		x, err := ParseFilter(text)
		if err != nil {
			return
		}
		y, err := ParseFilter(x.String())
		require.NoError(t, err)
		require.Equal(t, x, y)
		_, err = compile(&x)
		require.NoError(t, err)
	})
}
