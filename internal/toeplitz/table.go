package toeplitz

import "fmt"

// TableLen is the number of entries of an indirection table.
const TableLen = 128

// Table is an indirection table: the low 7 bits of a hash choose the entry, the entry names the queue. An
// owner that changes it while others read publishes a new one behind an atomic pointer. The zero Table
// sends everything to queue 0.
type Table [TableLen]uint16

// Spread returns the table that gives each of a number of queues, 1–65536, an equal part of the hashes, to
// one entry. A smaller number than 1 counts as 1.
func Spread(queues int) *Table {
	t := new(Table)
	for i := range t {
		t[i] = uint16(i % max(queues, 1))
	}
	return t
}

// Queue returns the queue of a hash.
func (t *Table) Queue(hash uint32) int { return int(t[hash%TableLen]) }

// Validate returns an error when an entry names a queue that a port with a number of queues does not have.
func (t *Table) Validate(queues int) error {
	for i, q := range t {
		if int(q) >= queues {
			return fmt.Errorf("indirection table: entry %d is queue %d, but there are %d queues", i, q, queues)
		}
	}
	return nil
}
