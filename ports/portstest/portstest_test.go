package portstest

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
)

// A part of the suite fails in a test of its own, so faulty backends are tested in a process of their
// own, whose output tells what failed.
const inFaultyProcess = "PORTSTEST_FAULTY"

func TestSuiteFindsFaults(t *testing.T) {
	if os.Getenv(inFaultyProcess) != "" {
		t.Skip("runs the process that this is")
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestFaulty$", "-test.v")
	cmd.Env = append(os.Environ(), inFaultyProcess+"=1")
	out, _ := cmd.CombinedOutput() // fails, as it should
	verdicts := regexp.MustCompile(`--- (PASS|FAIL|SKIP): TestFaulty/(\d+)/(\w+) `).FindAllStringSubmatch(string(out), -1)
	require.NotEmpty(t, verdicts, "%s", out)
	failed := map[string]bool{}
	for _, v := range verdicts {
		if v[1] == "FAIL" {
			failed[v[2]+" "+v[3]] = true
		}
	}
	t.Logf("to see how faults are found: %s=1 go test -run '^TestFaulty$' -v", inFaultyProcess)
	for i, f := range faults {
		if f.part == "" {
			for key := range failed {
				assert.False(t, strings.HasPrefix(key, number(i)+" "), "no fault, but %s fails", key)
			}
			continue
		}
		assert.True(t, failed[number(i)+" "+f.part], "fault %q: %s does not find it", f.name, f.part)
	}
}

func number(i int) string { return string([]byte{byte('0' + i/10), byte('0' + i%10)}) }

func TestFaulty(t *testing.T) {
	if os.Getenv(inFaultyProcess) == "" {
		return // it is TestSuiteFindsFaults that runs this, in a process of its own
	}
	patience = 100 * time.Millisecond
	for i, fault := range faults {
		t.Run(number(i), func(t *testing.T) {
			build := func(t *testing.T) Rig {
				a, b, err := ports.Pipe(&fault.cfg)
				require.NoError(t, err)
				f := &faulty{PipeEnd: a}
				if fault.plant != nil {
					fault.plant(f)
				}
				return Rig{
					Backend: f, Peer: &flushing{Far(b), f}, Depth: 256, SetLink: a.SetLink,
					Puts: fault.cfg.Offloads, Takes: fault.cfg.Offloads,
				}
			}
			if fault.part == "" {
				patience = 10 * time.Second
				Run(t, build)
				patience = 100 * time.Millisecond
				return
			}
			for _, p := range parts {
				if p.name == fault.part {
					t.Run(p.name, func(t *testing.T) { p.run(t, build) })
				}
			}
		})
	}
}

// flushing lets a faulty backend act just before the peer looks.
type flushing struct {
	Peer
	f *faulty
}

func (p *flushing) Take(wait time.Duration) (Packet, bool) {
	if p.f.before != nil {
		p.f.before()
	}
	return p.Peer.Take(wait)
}
