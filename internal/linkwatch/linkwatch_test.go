package linkwatch

import (
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
)

func TestChangesAreToldOnceAndInOrder(t *testing.T) {
	var up atomic.Bool
	var w Watch
	var told []bool
	w.Tell(up.Load) // nobody listens
	w.Set(func(l ports.Link) {
		told = append(told, l.Up)
		if len(told) == 1 { // it changes while it is told, and asking again from there does no harm
			up.Store(false)
			w.Tell(up.Load)
		}
	}, up.Load)
	w.Tell(up.Load)
	require.Empty(t, told)
	up.Store(true)
	w.Tell(up.Load)
	require.Equal(t, []bool{true, false}, told)
	w.Tell(up.Load)
	require.Len(t, told, 2)

	w.Set(nil, up.Load)
	up.Store(true)
	w.Tell(up.Load)
	w.Set(func(l ports.Link) { told = append(told, l.Up) }, up.Load)
	w.Tell(up.Load)
	require.Len(t, told, 2, "what was before is not told")
}
