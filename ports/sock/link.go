package sock

import (
	"sync"

	"github.com/hvswitch/hvswitch/ports"
)

// link is the state of a link, and who wants to know of it.
type link struct {
	mu      sync.Mutex
	up      bool
	told    bool // what the watcher knows
	telling bool // some goroutine is in tell
	changed func(ports.Link)
}

func (l *link) state() ports.Link {
	l.mu.Lock()
	defer l.mu.Unlock()
	return ports.Link{Up: l.up}
}

func (l *link) watch(changed func(ports.Link)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.changed, l.told = changed, l.up
}

// set changes the state. The caller calls tell when it holds no locks.
func (l *link) set(up bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.up = up
}

// tell tells the watcher when the link is not what it was told last. One goroutine does that at a
// time, without a lock, so that calls are in order and may use the socket.
func (l *link) tell() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.telling {
		return // and looks again before it ends
	}
	l.telling = true
	for l.changed != nil && l.told != l.up {
		l.told = l.up
		changed, now := l.changed, ports.Link{Up: l.up}
		l.mu.Unlock()
		changed(now)
		l.mu.Lock()
	}
	l.telling = false
}
