package ipfix

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
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
	"github.com/stretchr/testify/require"
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

// traffic sends flows of every kind.
func traffic(t *testing.T, s *station) {
	for range 5 {
		s.send(tagged(42, tcp4(t, 1000, nil)), tagged(42, udp4(t, 2000, 53)))
	}
	s.send(frame(t, ip6(layers.IPProtocolUDP), &layers.UDP{SrcPort: 5, DstPort: 6}, gopacket.Payload("hello")))
	s.send(frame(t, ip4(layers.IPProtocolICMPv4), &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 0)}))
	s.send(frame(t, &layers.ARP{AddrType: 1, Protocol: 0x800, Operation: 1, SourceHwAddress: macA,
		SourceProtAddress: []byte{10, 0, 0, 1}, DstHwAddress: macB, DstProtAddress: []byte{10, 0, 0, 2}}))
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

func TestNfcapdReceivesTheFlows(t *testing.T) {
	needs(t, map[string]string{"nfcapd": "nfdump", "nfdump": "nfdump"})
	probe, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	port := probe.LocalAddr().(*net.UDPAddr).Port
	probe.Close()

	dir := t.TempDir()
	daemon := exec.Command("nfcapd", "-4", "-b", "127.0.0.1", "-p", fmt.Sprint(port), "-w", dir)
	var output bytes.Buffer
	daemon.Stdout, daemon.Stderr = &output, &output
	require.NoError(t, daemon.Start())
	defer daemon.Process.Kill()
	require.Eventually(t, func() bool { return len(socket(t, port)) > 0 }, 10*time.Second, 10*time.Millisecond)

	conn, err := net.Dial("udp4", fmt.Sprintf("127.0.0.1:%d", port))
	require.NoError(t, err)
	defer conn.Close()
	e := newExporter(t, Config{Domain: 9}, conn)
	require.NoError(t, e.Start(network{}))
	traffic(t, e.plug(t, "vm", 6))
	e.Stop(network{})
	require.Zero(t, e.Stats().SendErrors)

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
	require.Contains(t, output.String(), "Sequence Errors: 0, Bad Packets: 0")

	files, err := filepath.Glob(filepath.Join(dir, "nfcapd.2*"))
	require.NoError(t, err)
	require.Len(t, files, 1, output.String())
	b, err := exec.Command("nfdump", "-r", files[0], "-o", "json").Output()
	require.NoError(t, err)
	var got []map[string]any
	require.NoError(t, json.Unmarshal(b, &got), string(b))
	find := func(proto, srcPort int) map[string]any {
		for _, r := range got {
			if r["proto"] == float64(proto) && (srcPort == 0 || r["src_port"] == float64(srcPort)) {
				return r
			}
		}
		t.Fatalf("no flow of protocol %d in %s", proto, b)
		return nil
	}
	for key, want := range map[string]any{
		"src4_addr": "10.0.0.1", "dst4_addr": "10.0.0.2", "src_port": 1000., "dst_port": 80., "in_packets": 5.,
		"in_bytes": 200., "input_snmp": 7., "src_vlan": 42., "tcp_flags": "...A....",
		"in_src_mac": "02:00:00:00:00:0a", "in_dst_mac": "02:00:00:00:00:0b",
	} {
		require.Equal(t, want, find(6, 0)[key], "%s in %s", key, b)
	}
	require.Equal(t, 250., find(17, 2000)["in_bytes"])
	require.Equal(t, "2001:db8::1", find(17, 5)["src6_addr"])
	require.Equal(t, 53., find(17, 5)["in_bytes"])
	require.Equal(t, 8., find(1, 0)["icmp_type"], string(b))
}

func TestTsharkDecodesTheMessages(t *testing.T) {
	needs(t, map[string]string{"tshark": "tshark"})
	e, c, stop := start(t, Config{Domain: 9})
	traffic(t, e.plug(t, "vm-with-a-name", 6))
	stop()

	name := filepath.Join(t.TempDir(), "ipfix.pcap")
	f, err := os.Create(name)
	require.NoError(t, err)
	w := pcapgo.NewWriter(f)
	require.NoError(t, w.WriteFileHeader(65535, layers.LinkTypeEthernet))
	for _, m := range c.messages {
		b := frame(t, ip4(layers.IPProtocolUDP), &layers.UDP{SrcPort: 4739, DstPort: 4739}, gopacket.Payload(m)).Head()
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
	require.Empty(t, run("-Y", "_ws.malformed || _ws.expert"), details)
	for _, want := range []string{
		"SrcAddr: 10.0.0.1", "DstAddr: 10.0.0.2", "SrcAddr: 2001:db8::1", "SrcPort: 1000", "DstPort: 80", "InputInt: 7",
		"IfName: vm-with-a-name", "Vlan Id: 42", "Packets: 5", "Octets: 200", "TCP Flags: 0x0010",
		"Observation Domain Id: 9", "Flow End Reason: Forced end (4)",
	} {
		require.Contains(t, details, want)
	}
}
