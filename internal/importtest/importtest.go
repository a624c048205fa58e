// Package importtest keeps packages to the imports that they are meant to have.
package importtest

import (
	"go/parser"
	"go/token"
	"os"
	"strings"
	"testing"
)

// Allows fails when a file of the package under test, which is in the working directory, imports what is not allowed.
// Its tests may import anything, and all may import the standard library.
func Allows(t *testing.T, allowed func(path string) bool) {
	t.Helper()
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".go") || strings.HasSuffix(f.Name(), "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), f.Name(), nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range parsed.Imports {
			if path := strings.Trim(i.Path.Value, `"`); strings.Contains(path, ".") && !allowed(path) {
				t.Errorf("%s imports %s", f.Name(), path)
			}
		}
	}
}

// Nothing allows the standard library only.
func Nothing(string) bool { return false }
