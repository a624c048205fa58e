package ipfix

import "sync"

// queueRecords is how many records wait for the goroutine of the exporter at most.
const queueRecords = 8192

// queue carries records of flows that made room from the workers of the switch to the goroutine of the
// exporter.
type queue struct {
	wake chan struct{} // has an element when the queue fills up

	mu            sync.Mutex
	records       []record
	budget        int    // records that may be queued until it is renewed
	evicted, lost uint64 // flows; packets of those there was no room for
}

func (q *queue) push(r record) {
	q.mu.Lock()
	q.evicted++
	n := len(q.records)
	if n < queueRecords && q.budget > 0 {
		q.budget--
		q.records = append(q.records, r)
	} else {
		q.lost += r.packets
	}
	q.mu.Unlock()
	if n == queueRecords/8 {
		select {
		case q.wake <- struct{}{}:
		default:
		}
	}
}

// renew lets n more records be queued.
func (q *queue) renew(n int) {
	q.mu.Lock()
	q.budget = n
	q.mu.Unlock()
}

// swap returns the queued records and takes the memory of empty for those to come.
func (q *queue) swap(empty []record) []record {
	q.mu.Lock()
	defer q.mu.Unlock()
	records := q.records
	q.records = empty[:0]
	return records
}
