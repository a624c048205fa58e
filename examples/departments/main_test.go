package main

import (
	"bytes"
	"io"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/vlan"
)

// differences returns the lines of an error.
func differences(err error) []string {
	if err == nil {
		return nil
	}
	return strings.Split(err.Error(), "\n")
}

// impatient returns the policy for a plan that fails it, so that waiting is in vain.
func impatient() requirement {
	r := policy()
	r.within = 2 * time.Second
	return r
}

// requireFound fails unless a difference starts so; how it was noticed depends on how busy the computer is.
func requireFound(t *testing.T, found []string, prefix string) {
	t.Helper()
	require.True(t, slices.ContainsFunc(found, func(s string) bool { return strings.HasPrefix(s, prefix) }),
		"no %q in:\n%s", prefix, strings.Join(found, "\n"))
}

func TestDepartmentsReachWhomTheyMust(t *testing.T) {
	before := runtime.NumGoroutine()
	var report bytes.Buffer
	require.NoError(t, run(t.Context(), &report, plan(), policy()))
	require.Contains(t, report.String(), "Seen on the trunk of host1: 2-4 (")
	require.Contains(t, report.String(), "Seen on the trunk of host2: 2-4 (")
	require.Contains(t, report.String(), ": 26 reach, 156 do not, 0 differences\n")
	require.Eventually(t, func() bool { return runtime.NumGoroutine() <= before+1 }, 5*time.Second, time.Millisecond,
		"more goroutines are left than the one of Eventually")
}

func TestVMInTheWrongVLANIsFound(t *testing.T) {
	t.Parallel()
	wrong := plan()
	require.Equal(t, "sales-2", wrong[1].machine)
	wrong[1].vlan = vlan.Access(finance)
	var report bytes.Buffer
	found := differences(run(t.Context(), &report, wrong, impatient()))

	for _, peer := range []string{"sales-1", "sales-srv"} {
		requireFound(t, found, peer+" must reach sales-2: ")
		requireFound(t, found, "sales-2 must reach "+peer+": ")
	}
	for _, peer := range []string{"finance-1", "finance-2", "finance-srv"} {
		requireFound(t, found, peer+" must not reach sales-2: ")
		requireFound(t, found, "sales-2 must not reach "+peer+": ")
	}
	require.Equal(t, len(found), strings.Count(report.String(), " "+different)-1, "marks in the matrix, besides the legend")
}

func TestWrongRequirementIsFound(t *testing.T) {
	t.Parallel()
	r := impatient()
	r.groups[3] = nil                              // R&D talk, though they must not
	r.groups[4] = append(r.groups[4], "sales-srv") // reaches nobody of management, though it must
	r.trunk = vlan.MustParseSet("2-5")
	found := differences(run(t.Context(), io.Discard, plan(), r))

	requireFound(t, found, "rnd-1 must not reach rnd-2: ")
	requireFound(t, found, "rnd-2 must not reach rnd-1: ")
	for _, peer := range []string{"host-1", "host-2", "admin"} {
		requireFound(t, found, peer+" must reach sales-srv: ")
		requireFound(t, found, "sales-srv must reach "+peer+": ")
	}
	requireFound(t, found, "trunk of host1 must carry VLANs 2-5: carried 2-4")
	requireFound(t, found, "trunk of host2 must carry VLANs 2-5: carried 2-4")
}

func TestFramesThatArriveUnansweredAreADifference(t *testing.T) {
	t.Parallel()
	leaky := plan()
	require.Equal(t, "sales-srv", leaky[2].machine)
	leaky[2].vlan = vlan.Promiscuous(sales, vlan.MustParseSet("3")) // hears finance, answers to sales
	found := differences(run(t.Context(), io.Discard, leaky, policy()))
	require.Equal(t, []string{
		"finance-1 must not reach sales-srv: frames arrived",
		"finance-2 must not reach sales-srv: frames arrived",
		"finance-srv must not reach sales-srv: frames arrived",
	}, found)
}

func TestManagementOnTheTrunkIsADifference(t *testing.T) {
	t.Parallel()
	wrong := plan()
	for i := range wrong {
		if wrong[i].host == host1 && wrong[i].sw == mgmt {
			wrong[i].sw = vms
		}
	}
	err := run(t.Context(), io.Discard, wrong, impatient())
	require.ErrorContains(t, err, "trunk of host1 must carry VLANs 2-4: carried 2-4 and untagged")
}

func TestPictureShowsThePlan(t *testing.T) {
	for _, p := range plan() {
		require.Contains(t, picture, p.machine)
	}
}
