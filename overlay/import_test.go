package overlay

import (
	"strings"
	"testing"

	"github.com/hvswitch/hvswitch/internal/importtest"
)

func TestThePackageKnowsPortsAndInternalsOnly(t *testing.T) {
	const module = "github.com/hvswitch/hvswitch/"
	importtest.Allows(t, func(path string) bool {
		return path == module+"ports" || strings.HasPrefix(path, module+"internal/")
	})
}
