package overlay

import (
	"go/parser"
	"go/token"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestThePackageKnowsPortsAndInternalsOnly(t *testing.T) {
	const module = "github.com/hvswitch/hvswitch/"
	files, err := os.ReadDir(".")
	require.NoError(t, err)
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".go") || strings.HasSuffix(f.Name(), "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), f.Name(), nil, parser.ImportsOnly)
		require.NoError(t, err)
		for _, i := range parsed.Imports {
			path := strings.Trim(i.Path.Value, `"`)
			ok := !strings.Contains(path, ".") || path == module+"ports" || strings.HasPrefix(path, module+"internal/")
			require.True(t, ok, "%s imports %s", f.Name(), path)
		}
	}
}
