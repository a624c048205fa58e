package table_test

import (
	"os"
	"time"

	"github.com/hvswitch/hvswitch/examples/internal/table"
)

func ExampleTable() {
	t := table.New("port", "frames", "ping", "reason")
	t.Row("vm1", 7, 12*time.Microsecond, "queue full")
	t.Row("uplink", 12345, 1300*time.Microsecond)
	t.Print(os.Stdout)
	// Output:
	//   port    frames   ping  reason
	//   vm1          7   12µs  queue full
	//   uplink   12345  1.3ms
}
