package metrics

import (
	"fmt"
	"strings"
	"unicode/utf8"

	dto "github.com/prometheus/client_model/go"
)

// Names of labels, in the order in which a series has them.
const (
	labelAddress   = "address"
	labelClass     = "class"
	labelDirection = "direction"
	labelExtension = "extension"
	labelHost      = "host"
	labelPort      = "port"
	labelReason    = "reason"
	labelRule      = "rule"
	labelSide      = "side"
	labelSwitch    = "switch"
)

// label is never changed, so that many series share it.
type label = dto.LabelPair

func pair(name, value string) *label {
	value = printable(value)
	return &label{Name: &name, Value: &value}
}

// printable makes a name UTF-8, which Prometheus demands of all labels or refuses them all. Different
// names stay different, so that no two series are the same, which it refuses too.
func printable(name string) string {
	if utf8.ValidString(name) && !strings.ContainsRune(name, utf8.RuneError) {
		return name
	}
	var b strings.Builder
	for i, r := range name {
		switch {
		case r != utf8.RuneError:
			b.WriteRune(r)
		case strings.HasPrefix(name[i:], string(utf8.RuneError)):
			b.WriteString("\uFFFD00")
		default:
			fmt.Fprintf(&b, "\uFFFD%02x", name[i])
		}
	}
	return b.String()
}
