package sock

import (
	"sync/atomic"

	"github.com/hvswitch/hvswitch/internal/linkwatch"
	"github.com/hvswitch/hvswitch/ports"
)

// link is the state of a link, and who wants to know of it.
type link struct {
	up      atomic.Bool
	watcher linkwatch.Watch
}

func (l *link) state() ports.Link { return ports.Link{Up: l.up.Load()} }

func (l *link) watch(changed func(ports.Link)) { l.watcher.Set(changed, l.up.Load) }

// set changes the state. The caller calls tell when it holds no locks.
func (l *link) set(up bool) { l.up.Store(up) }

// tell tells the watcher of a change.
func (l *link) tell() { l.watcher.Tell(l.up.Load) }
