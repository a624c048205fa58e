package hvswitch_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// goOutput runs the go command on the root module alone.
func goOutput(t *testing.T, args ...string) []byte {
	t.Helper()
	cmd := exec.Command("go", args...)
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	require.NoError(t, err, "go %v", args)
	return out
}

// Whoever imports the library gets these modules and no others: what needs more is a nested module.
func TestRootModuleRequiresFourPackages(t *testing.T) {
	var mod struct {
		Require []struct {
			Path     string
			Indirect bool
		}
	}
	require.NoError(t, json.Unmarshal(goOutput(t, "mod", "edit", "-json"), &mod))
	var direct []string
	for _, r := range mod.Require {
		if !r.Indirect {
			direct = append(direct, r.Path)
		}
	}
	slices.Sort(direct)
	require.Equal(t, []string{
		"github.com/google/gopacket",
		"github.com/mdlayher/packet",
		"github.com/stretchr/testify",
		"golang.org/x/sys",
	}, direct)
}

// No package but those for tests depends on a test library.
func TestPackagesImportNothingElse(t *testing.T) {
	allowed := []string{
		"github.com/hvswitch/hvswitch",
		"github.com/mdlayher/packet", "github.com/mdlayher/socket",
		"golang.org/x/net/bpf", "golang.org/x/sync/", "golang.org/x/sys/",
	}
	list := []string{"list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}"}
	for _, p := range strings.Fields(string(goOutput(t, "list", "./..."))) {
		if !strings.HasSuffix(p, "test") { // portstest is for tests
			list = append(list, p)
		}
	}
	for _, p := range strings.Fields(string(goOutput(t, list...))) {
		ok := slices.ContainsFunc(allowed, func(a string) bool { return strings.HasPrefix(p, a) })
		require.True(t, ok, "%s is not to be imported", p)
	}
}

// The layout of the module is fixed.
func TestTopLevelFolders(t *testing.T) {
	allowed := []string{"vswitch", "vlan", "team", "overlay", "qos", "ports", "examples", "internal"}
	entries, err := os.ReadDir(".")
	require.NoError(t, err)
	for _, e := range entries {
		if e.IsDir() && !strings.HasPrefix(e.Name(), ".") {
			require.Contains(t, allowed, e.Name())
		}
	}
}
