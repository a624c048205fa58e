// Package linkwatch tells whoever watches a backend of the changes of its link.
package linkwatch

import (
	"sync"

	"github.com/hvswitch/hvswitch/ports"
)

// Watch is who wants to know of the link of one device. The zero Watch is nobody. Its methods may be called from any
// goroutine.
type Watch struct {
	mu      sync.Mutex
	changed func(ports.Link)
	was     bool // told last
	telling bool // some goroutine is in Tell
	again   bool // it shall look once more
}

// Set sets the function that is called after each change, or none with nil. up reports the state now. Tell should
// follow, for a change that came before.
func (w *Watch) Set(changed func(ports.Link), up func() bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.changed == nil {
		w.was = up()
	}
	w.changed = changed
}

// Tell tells the watcher when the link is not what it was told last. One goroutine does that at a time, without a lock,
// so that calls are in order and may use the device.
func (w *Watch) Tell(up func() bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.again = true
	if w.telling {
		return
	}
	w.telling = true
	for w.again {
		w.again = false
		now, changed := up(), w.changed
		if now == w.was || changed == nil {
			continue
		}
		w.was, w.again = now, true
		w.mu.Unlock()
		changed(ports.Link{Up: now})
		w.mu.Lock()
	}
	w.telling = false
}
