package toeplitz

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSpreadIsEven(t *testing.T) {
	for _, queues := range []int{1, 2, 3, 8, 127, 128, 200} {
		count := map[int]int{}
		table := Spread(queues)
		for hash := range uint32(TableLen) {
			count[table.Queue(hash|0xabcdef00)]++
		}
		for q, n := range count {
			require.Less(t, q, queues)
			require.InDelta(t, float64(TableLen)/float64(queues), n, 1)
		}
		require.NoError(t, table.Validate(queues))
	}
	require.Equal(t, &Table{}, Spread(0))
}

func TestTableOfQueuesThatDoNotExist(t *testing.T) {
	table := Spread(4)
	table[7] = 9
	require.EqualError(t, table.Validate(4), "indirection table: entry 7 is queue 9, but there are 4 queues")
	require.NoError(t, table.Validate(10))
	require.Error(t, new(Table).Validate(0))
}
