package overlay

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
)

// Wireshark takes every encapsulated frame apart without a complaint, checksums included.
func TestDecodesWithTshark(t *testing.T) {
	path, err := exec.LookPath("tshark")
	if err != nil {
		t.Skip("tshark is not installed")
	}
	var file bytes.Buffer
	w := pcapgo.NewWriter(&file)
	require.NoError(t, w.WriteFileHeader(65535, layers.LinkTypeEthernet))
	type want struct{ encap, vsid, inner string }
	var wants []want
	write := func(f *ports.Frame, x want) {
		b := wire(f)
		require.NoError(t, w.WritePacket(gopacket.CaptureInfo{Timestamp: time.Unix(0, 0), CaptureLength: len(b), Length: len(b)}, b))
		wants = append(wants, x)
	}
	for _, p := range []packet{inner4, inner6} {
		for e, x := range []want{{"gre", "0x001389", ""}, {"vxlan", "5001", ""}, {"geneve", "0x001389", ""}} {
			x.inner = p.to.String()
			c := TunnelConfig{Encapsulation: Encapsulation(e), VLAN: ports.Tag{TPID: 0x8100, TCI: 5}}
			for _, tun := range []*Tunnel{tunnel(t, c), tunnel6(t, c)} {
				f := p.frame(t)
				require.NoError(t, tun.Encap(f, 5001))
				write(f, x)
			}
		}
	}
	// And what an engine sends by itself.
	s := newTenants(t)
	s.send(0, s.p[1], udp(routerOfVSID(5001), "10.0.1.13").frame(t))
	tso := udp(mac(2), "10.0.0.12")
	tso.proto, tso.payload = layers.IPProtocolTCP, 4000
	s.send(0, s.p[1], tso.asking(t, 1400))
	for _, f := range s.wire {
		write(f, want{})
	}
	for _, p := range []packet{solicit(mac(1), "::", "fd00:0:0:1::12"), udp(routerOfVSID(5001), "172.16.0.1"), udp(routerOfVSID(5001), "fd99::1")} {
		for _, d := range s.send(0, s.p[1], p.frame(t)) {
			write(frameOf(d.data), want{})
		}
	}
	// And what hosts tell each other.
	for _, pas := range [][]string{v4PAs, v6PAs} {
		for _, told := range [][]int{{1, 2}, nil} {
			m := newMoved(t, NVGRE, pas...)
			m.move(told...)
			target := m.hosts[2].pa
			if told == nil {
				target = m.hosts[0].pa
				require.NoError(t, m.hosts[1].e.Replace(nil))
			}
			m.send(0, m.p, m.frame())
			write(m.wire[len(m.wire)-1], want{encap: "gre", vsid: "0x001389", inner: target.String()})
		}
	}

	name := filepath.Join(t.TempDir(), "overlay.pcap")
	require.NoError(t, os.WriteFile(name, file.Bytes(), 0o600))
	out, err := exec.Command(path, "-r", name, "-T", "json", "-o", "ip.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE", "-o", "tcp.check_checksum:TRUE",
		"-e", "_ws.malformed", "-e", "_ws.expert.message", "-e", "gre.key", "-e", "vxlan.vni", "-e", "geneve.vni", "-e", "ip.dst", "-e", "ipv6.dst", "-e", "frame.protocols").Output()
	require.NoError(t, err)
	var packets []struct {
		Source struct {
			Layers map[string][]string `json:"layers"`
		} `json:"_source"`
	}
	require.NoError(t, json.Unmarshal(out, &packets))
	require.Len(t, packets, len(wants))
	for i, p := range packets {
		l := p.Source.Layers
		require.Empty(t, l["_ws.malformed"], "%v", l)
		for _, m := range l["_ws.expert.message"] {
			require.NotContains(t, m, "hecksum", "%v", l)
			require.NotContains(t, m, "alformed", "%v", l)
		}
		x := wants[i]
		switch x.encap {
		case "":
			continue
		case "gre":
			require.Contains(t, l["frame.protocols"][0], "gre:eth", "%v", l)
			require.Equal(t, x.vsid, l["gre.key"][0][:8])
		case "vxlan":
			require.Equal(t, []string{x.vsid}, l["vxlan.vni"])
		case "geneve":
			require.Equal(t, []string{x.vsid}, l["geneve.vni"])
		}
		require.Contains(t, append(l["ip.dst"], l["ipv6.dst"]...), x.inner)
	}
}
