package vswitch

import (
	"sync"
	"time"

	"github.com/hvswitch/hvswitch/qos"
)

// maximum bounds what a vNIC sends. Its queues are not received from while it has sent too much, so that the guest
// waits.
type maximum struct {
	mu      sync.Mutex
	bucket  qos.Bucket
	burst   int // that it holds, bytes
	longest int // frame that was seen, bytes on the wire
}

// longestPause bounds how long a queue is left alone at once, so that a change is seen.
const longestPause = 100 * time.Millisecond

func newMaximum(b Bandwidth) *maximum {
	if b.MaxRate == 0 {
		return nil
	}
	burst := b.Burst
	if burst == 0 {
		burst = qos.DefaultBurst(b.MaxRate)
	}
	return &maximum{bucket: qos.NewBucket(b.MaxRate, burst), burst: burst, longest: qos.WireBytes(maxEther, 0, 0)}
}

const maxEther = etherHeader + 1500

// frames returns how many frames may be received now, or none and how long not.
func (m *maximum) frames(now time.Duration) (n int, pause time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	level := m.bucket.Level(now)
	if level <= 0 {
		return 0, min(m.bucket.Until(m.worth(), now), longestPause)
	}
	return min(level/m.longest+1, burstSize), 0
}

// worth returns for how many bytes a pause is to end.
func (m *maximum) worth() int { return min(m.burst, burstSize*m.longest)/2 + 1 }

// charge accounts for frames that have been received.
func (m *maximum) charge(b *burst) {
	total, longest := 0, 0
	for _, f := range b.frames {
		n := wireBytes(f)
		total += n
		longest = max(longest, n)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.bucket.Spend(total, b.clock)
	m.longest = max(m.longest, longest)
}
