package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/overlay"
)

// differences returns the lines of an error.
func differences(err error) []string {
	if err == nil {
		return nil
	}
	return strings.Split(err.Error(), "\n")
}

// newScene returns the lab of a plan, whose hosts have the policy and know each other.
func newScene(t *testing.T, p *plan) *lab {
	t.Helper()
	l, err := newLab(p, overlay.NVGRE, nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.close()) })
	require.NoError(t, l.awaitPolicy(t.Context(), l.hosts...))
	require.NoError(t, l.pingHosts(t.Context(), io.Discard, p.tenantsApart()))
	return l
}

// requireFound fails unless a difference starts so; how it was noticed depends on how busy the computer is.
func requireFound(t *testing.T, found []string, prefix string) {
	t.Helper()
	require.True(t, slices.ContainsFunc(found, func(s string) bool { return strings.HasPrefix(s, prefix) }),
		"no %q in:\n%s", prefix, strings.Join(found, "\n"))
}

// brief returns what is required, with little patience for what must not come.
func brief(p *plan) requirement {
	r := p.tenantsApart()
	r.inVain = 50 * time.Millisecond
	return r
}

// impatient returns what is required of a plan that fails it, so that waiting is in vain where somebody must
// answer, and is not where nobody must.
func impatient(p *plan) requirement {
	r := p.tenantsApart()
	r.within, r.inVain = time.Second, 3*time.Second
	return r
}

func TestTenantsAreApart(t *testing.T) {
	before := runtime.NumGoroutine()
	var out bytes.Buffer
	p := newPlan(2)
	require.NoError(t, run(t.Context(), &out, options{hosts: 2}, p, p.tenantsApart()), "%s", &out)
	report := out.String()
	for _, want := range []string{
		"  red-web1   a    ✓ ✓ ✓ = = = ·      ✓ ✓ ✓ · · · ·\n",
		"  blue-db2   h  = = · = ✓ ✓ ✓      · · · · ✓ ✓ ✓\n",
		"  10.0.0.11       red-web1      blue-web1\n",
		"  fd00:0:0:1::12  red-db2       blue-db1\n",
		"of 56 pairs 24 reach, 32 do not, 0 differ from what is required\n",
		"from every host to every other: 2, of which 0 failed;",
		"    to port \"red-db2\"\n",
		"    dropped: no lookup record\n",
		"the same by SHA-256 and by count\n",
		"\nAll is as required.\n",
	} {
		require.Contains(t, report, want)
	}
	for line := range strings.Lines(report) {
		require.Equal(t, strings.TrimRight(line, " \n")+"\n", line, "blanks at the end of a line")
	}
	require.Eventually(t, func() bool { return runtime.NumGoroutine() <= before+1 }, 20*time.Second, 10*time.Millisecond,
		"more goroutines are left than the one of Eventually")
}

func TestFiveHosts(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	p := newPlan(5)
	require.NoError(t, run(t.Context(), &out, options{hosts: 5}, p, brief(p)), "%s", &out)
	for _, want := range []string{
		"  host2  192.0.2.2/24             2  red, blue       16\n",
		"  host4  192.0.2.4/24             1  blue             8\n",
		"red-web1 moves from host1 to host4, while it sends to red-db1 on host5 by TCP",
		"  networks that host4 follows                  red, blue; before: blue\n",
		"0 differ from what is required\n",
	} {
		require.Contains(t, out.String(), want)
	}
}

// More VMs than a matrix has columns for.
func TestManyVMsAreCounted(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	p := newPlan(28)
	require.Len(t, p.vms, 28)
	require.NoError(t, run(t.Context(), &out, options{hosts: 28}, p, brief(p)), "%s", &out)
	for _, want := range []string{
		"  red web   42/42    49/49   0/0       0/0\n",
		"  blue db   0/0      0/0     49/49     42/42\n",
		"red-web1 moves from host1 to host28, while",
	} {
		require.Contains(t, out.String(), want)
	}
}

func TestEveryHostHasAVM(t *testing.T) {
	for n := minHosts; n <= maxHosts; n++ {
		p := newPlan(n)
		for h := range n {
			require.NotEmpty(t, p.at(h), "host %d of %d", h, n)
		}
		for _, s := range p.subnets {
			hosts := map[int]bool{}
			for _, v := range p.vms {
				if v.in == s {
					hosts[v.host] = true
				}
			}
			require.Greater(t, len(hosts), 1, "%s %s, %d hosts", s.of.name, s.name, n)
		}
	}
}

// What is in the file is encapsulated as it was asked for, and tshark finds nothing to complain of.
func TestTsharkReadsTheProviderNetwork(t *testing.T) {
	tshark, err := exec.LookPath("tshark")
	if err != nil {
		t.Skip("tshark is not installed")
	}
	for e, protocols := range map[overlay.Encapsulation]string{
		overlay.NVGRE:  "eth:ethertype:ip:gre:eth:ethertype:",
		overlay.VXLAN:  "eth:ethertype:ip:udp:vxlan:eth:ethertype:",
		overlay.Geneve: "eth:ethertype:ip:udp:geneve:eth:ethertype:",
	} {
		t.Run(e.String(), func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "wire.pcapng")
			p := newPlan(2)
			var report bytes.Buffer
			require.NoError(t, run(t.Context(), &report, options{hosts: 2, encapsulation: e, pcap: file}, p, brief(p)), "%s", &report)
			require.Contains(t, report.String(), " frames of the provider network, 0 lost\n")

			inside := 0
			for line := range strings.Lines(dissect(t, tshark, file)) {
				fields := strings.Split(strings.TrimSuffix(line, "\n"), "|")
				require.NotContains(t, fields[0], "_ws", line) // malformed, or a short one
				for _, sums := range fields[1:] {
					require.NotContains(t, strings.Split(sums, ","), "0", line) // a wrong checksum
				}
				switch {
				case strings.HasPrefix(fields[0], protocols):
					inside++
				case !strings.HasPrefix(fields[0], "eth:ethertype:arp"):
					require.True(t, strings.HasPrefix(fields[0], "eth:ethertype:ip:icmp"), line) // a ping of hosts
				}
			}
			require.Greater(t, inside, 100)
		})
	}
}

// dissect returns a line for each packet: its protocols and whether its checksums are right.
func dissect(t *testing.T, tshark, file string) string {
	t.Helper()
	// What is transferred may look like this or that protocol.
	args := []string{"-r", file, "-d", fmt.Sprintf("tcp.port==%d,data", transferPort), "-T", "fields", "-E", "separator=|", "-e", "frame.protocols"}
	for _, p := range []string{"ip", "tcp", "udp", "icmp", "icmpv6"} {
		args = append(args, "-e", p+".checksum.status")
	}
	for _, p := range []string{"ip", "tcp", "udp"} {
		args = append(args, "-o", p+".check_checksum:TRUE")
	}
	cmd := exec.Command(tshark, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "HOME="+t.TempDir())
	var out, warnings bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &warnings
	require.NoError(t, cmd.Run(), "%s", &warnings)
	for line := range strings.Lines(warnings.String()) {
		require.True(t, strings.HasPrefix(line, "Running as user"), line) // says tshark to root
	}
	return out.String()
}

func TestWrongRequirementIsFound(t *testing.T) {
	t.Parallel()
	p := newPlan(2)
	r := impatient(p)
	r.groups = [][]string{append(r.groups[0], "blue-db2"), {"blue-web1", "blue-web2", "blue-db2"}} // not blue-db1
	var out bytes.Buffer
	found := differences(run(t.Context(), &out, options{hosts: 2}, p, r))
	requireFound(t, found, "red-web1 must reach blue-db2 at 10.0.1.13: ")
	requireFound(t, found, "red-db2 must reach blue-db2 at fd00:0:0:1::13: ")
	requireFound(t, found, `blue-db2 must reach red-web1 at 10.0.0.11: "blue-web1" answered`)
	requireFound(t, found, "blue-web1 must not reach blue-db1: ")
	requireFound(t, found, "blue-db2 must not reach blue-db1: ")
	require.NotContains(t, out.String(), "All is as required.")
}

func TestVMInTheWrongNetworkIsFound(t *testing.T) {
	t.Parallel()
	p := newPlan(2)
	r := impatient(p)
	v, red := p.vms[7], p.subnets[1]
	require.Equal(t, "blue-db2", v.name)
	require.Equal(t, "red", red.of.name)
	v.in = red
	l := newScene(t, p)
	found := differences(l.askAll(t.Context(), r).err())
	requireFound(t, found, "red-web1 must not reach blue-db2: ")
	requireFound(t, found, "red-db2 must not reach blue-db2: ")
	requireFound(t, found, "blue-web1 must reach blue-db2 at 10.0.1.13: ")
}

// A VM whose records lead to a host where it is not.
func TestWrongRecordIsFound(t *testing.T) {
	t.Parallel()
	p := newPlan(2)
	l := newScene(t, p)
	v := p.vms[1]
	wrong := *v
	wrong.host = 1 - v.host
	_, err := l.store.Commit(t.Context(), l.records(&wrong))
	require.NoError(t, err)
	require.Eventually(t, func() bool { return l.policyDiffers(l.hosts...) != nil }, 20*time.Second, time.Millisecond)
	require.ErrorContains(t, l.policyDiffers(l.hosts...), "12 in VSID 5001 on 192.0.2.1 that it is not to have")
	r := brief(p)
	r.within = time.Second
	found := differences(l.askAll(t.Context(), r).err(v))
	requireFound(t, found, "red-web1 must reach red-web2 at 10.0.0.12: ")
}

func TestCutTransferIsFound(t *testing.T) {
	t.Parallel()
	l := newScene(t, newPlan(2))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	from := l.machines[0]
	tr, err := startTransfer(ctx, from, l.machines[2])
	require.NoError(t, err)
	require.NoError(t, tr.await(ctx, 1<<20))
	require.NoError(t, from.vnic.Close())
	cancel() // no more patience
	require.ErrorContains(t, tr.await(ctx, 1<<30), " bytes have arrived")
	require.Error(t, tr.finish())
}

// A program that is interrupted leaves nothing behind, wherever it is.
func TestInterrupt(t *testing.T) {
	for _, at := range []string{"hosts, joined", "What the store", "Pings of prov", "Pings of cust", "moves from"} {
		t.Run(at, func(t *testing.T) {
			before := runtime.NumGoroutine()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			file := filepath.Join(t.TempDir(), "wire.pcapng")
			p := newPlan(2)
			err := run(ctx, cancelAt{at, cancel}, options{hosts: 2, pcap: file}, p, brief(p))
			require.ErrorIs(t, err, context.Canceled)
			require.FileExists(t, file)
			require.Eventually(t, func() bool { return runtime.NumGoroutine() <= before+1 }, 20*time.Second, 10*time.Millisecond)
		})
	}
}

// cancelAt cancels when a text is written.
type cancelAt struct {
	text   string
	cancel context.CancelFunc
}

func (c cancelAt) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte(c.text)) {
		c.cancel()
	}
	return len(b), nil
}

func TestOptions(t *testing.T) {
	for _, x := range []struct {
		hosts         int
		encapsulation string
		rest          []string
		want          string
	}{
		{2, "nvgre", nil, ""},
		{100, "VXLAN", nil, ""},
		{1, "nvgre", nil, "-hosts 1: is out of 2–100"},
		{101, "nvgre", nil, "-hosts 101: is out of 2–100"},
		{2, "gre", nil, "-encapsulation gre: is none of nvgre, vxlan and geneve"},
		{2, "nvgre", []string{"5"}, `argument "5": there are none but flags`},
	} {
		o := options{hosts: x.hosts}
		err := o.check(x.encapsulation, x.rest)
		if x.want == "" {
			require.NoError(t, err)
			require.True(t, strings.EqualFold(x.encapsulation, o.encapsulation.String()))
			continue
		}
		require.EqualError(t, err, x.want)
	}
	p := newPlan(2)
	name := filepath.Join(t.TempDir(), "no", "wire.pcapng")
	err := run(t.Context(), io.Discard, options{hosts: 2, pcap: name}, p, p.tenantsApart())
	require.EqualError(t, err, "-pcap "+name+": no such file or directory")
	require.True(t, errors.Is(err, os.ErrNotExist))
}
