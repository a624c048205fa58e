package sflow

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/vswitch/extension"
)

// needs skips the test when the machine lacks a program.
func needs(t *testing.T, programs map[string]string) {
	t.Helper()
	for program, pkg := range programs {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("needs %s: apt-get install %s", program, pkg)
		}
	}
}

// socket returns the lines of the kernel about the UDP socket bound to a port.
func socket(t *testing.T, port int) (lines []string) {
	b, err := os.ReadFile("/proc/net/udp")
	require.NoError(t, err)
	for s := bufio.NewScanner(bytes.NewReader(b)); s.Scan(); {
		if strings.Contains(s.Text(), fmt.Sprintf(":%04X 00000000:0000", port)) {
			lines = append(lines, s.Text())
		}
	}
	return lines
}

func TestSfcapdReceivesTheSamples(t *testing.T) {
	needs(t, map[string]string{"sfcapd": "nfdump-sflow", "nfdump": "nfdump"})
	probe, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	port := probe.LocalAddr().(*net.UDPAddr).Port
	probe.Close()

	dir := t.TempDir()
	daemon := exec.Command("sfcapd", "-4", "-b", "127.0.0.1", "-p", fmt.Sprint(port), "-w", dir)
	var output bytes.Buffer
	daemon.Stdout, daemon.Stderr = &output, &output
	require.NoError(t, daemon.Start())
	defer daemon.Process.Kill()
	require.Eventually(t, func() bool { return len(socket(t, port)) > 0 }, 10*time.Second, 10*time.Millisecond)

	conn, err := net.Dial("udp4", fmt.Sprintf("127.0.0.1:%d", port))
	require.NoError(t, err)
	defer conn.Close()
	a := newAgent(t, Config{Rate: 10, Egress: true}, conn)
	require.NoError(t, a.Start(network{}))
	x, y := a.plug(t, "x", 6), a.plug(t, "y", 7)
	const packets = 1000
	for range packets {
		f := tagged(42, udp(t, 1000, 22))
		x.send(f)
		y.receive(x.port, f)
	}
	a.Stop(network{})
	require.Zero(t, a.Stats().SendErrors)
	samples := a.Stats().FlowSamples
	require.InDelta(t, 2*packets/10, samples, 90)

	require.Eventually(t, func() bool { // all datagrams have been read
		for _, line := range socket(t, port) {
			if !strings.Contains(line, " 00000000:00000000 ") {
				return false
			}
		}
		return true
	}, 10*time.Second, 10*time.Millisecond)
	require.NoError(t, daemon.Process.Signal(syscall.SIGTERM))
	require.NoError(t, daemon.Wait(), output.String())

	files, err := filepath.Glob(filepath.Join(dir, "nfcapd.2*"))
	require.NoError(t, err)
	require.Len(t, files, 1, output.String())
	b, err := exec.Command("nfdump", "-r", files[0], "-o", "json").Output()
	require.NoError(t, err)
	var got []map[string]any
	require.NoError(t, json.Unmarshal(b, &got), string(b))
	require.Equal(t, int(samples), len(got), output.String())
	var out int
	for _, r := range got {
		for key, want := range map[string]any{
			"src4_addr": "10.0.0.1", "dst4_addr": "10.0.0.2", "src_port": 1000., "dst_port": 9., "proto": 17.,
			"in_packets": 10., "in_src_mac": "02:00:00:00:00:0a", "input_snmp": 7.,
		} {
			require.Equal(t, want, r[key], "%s in %v", key, r)
		}
		if r["output_snmp"] == 8. {
			out++
			require.Equal(t, 42., r["dst_vlan"], "%v", r)
		} else {
			require.Equal(t, 42., r["src_vlan"], "%v", r)
		}
	}
	require.Greater(t, out, 0)
	require.Less(t, out, len(got))
}

func TestTsharkDecodesTheDatagrams(t *testing.T) {
	needs(t, map[string]string{"tshark": "tshark"})
	var c *collector
	synctest.Test(t, func(t *testing.T) {
		a, col, stop := start(t, Config{Rate: 1, Egress: true, CounterInterval: time.Second, Counters: func(p *extension.Port) (Counters, bool) {
			return Counters{RxFrames: 77, RxBytes: 12345, Speed: 25e9, Up: true}, true
		}})
		c = col
		x, y := a.plug(t, "vm-x", 6), a.plug(t, "vm-y", 7)
		for n := range 20 {
			f := tagged(5<<13|42, udp(t, 1000, 50*n))
			x.send(f, udp(t, 1000, n))
			y.receive(x.port, f)
		}
		time.Sleep(5 * time.Second)
		stop()
	})
	name := filepath.Join(t.TempDir(), "sflow.pcap")
	f, err := os.Create(name)
	require.NoError(t, err)
	w := pcapgo.NewWriter(f)
	require.NoError(t, w.WriteFileHeader(65535, layers.LinkTypeEthernet))
	for _, d := range c.raw {
		eth := &layers.Ethernet{SrcMAC: make([]byte, 6), DstMAC: make([]byte, 6), EthernetType: 0x800}
		ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: net.IP{127, 0, 0, 1}, DstIP: net.IP{127, 0, 0, 1}}
		u := &layers.UDP{SrcPort: 6343, DstPort: 6343}
		require.NoError(t, u.SetNetworkLayerForChecksum(ip))
		buf := gopacket.NewSerializeBuffer()
		opts := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
		require.NoError(t, gopacket.SerializeLayers(buf, opts, eth, ip, u, gopacket.Payload(d)))
		b := buf.Bytes()
		require.NoError(t, w.WritePacket(gopacket.CaptureInfo{Timestamp: time.Now(), CaptureLength: len(b), Length: len(b)}, b))
	}
	require.NoError(t, f.Close())

	run := func(args ...string) string {
		cmd := exec.Command("tshark", append([]string{"-n", "-r", name}, args...)...)
		b, err := cmd.Output()
		require.NoError(t, err)
		return string(b)
	}
	details := run("-V")
	require.Empty(t, run("-Y", "_ws.malformed || _ws.expert"))
	for _, want := range []string{
		"Datagram version: 5", "Agent address: 192.0.2.1", "Flow sample, seq 1", "Counters sample, seq 1",
		"Incoming 802.1Q VLAN: 42", "Outgoing 802.1Q VLAN: 42", "Interface Speed: 25000000000", "Input Octets: 12345",
		"Input Packets: 77", "Sampling rate: 1 out of 1 packets", "Frame Length: 68",
	} {
		require.True(t, strings.Contains(details, want), "%q is not in %.6000s", want, details)
	}
}
