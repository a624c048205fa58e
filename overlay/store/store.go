package store

import (
	"context"
	"errors"

	"github.com/hvswitch/hvswitch/overlay"
)

// ErrClosed says that a store or a watcher has been closed.
var ErrClosed = errors.New("store is closed")

// Store holds the policy of all virtual networks. Its methods may be called from any goroutine.
type Store interface {
	// Commit makes changes as one transaction, all or none, and returns its revision, which is higher
	// than that of every one before. A change that is not valid is an *overlay.ConfigError. The
	// changes are copied.
	Commit(ctx context.Context, changes []overlay.Change) (revision uint64, err error)

	// Watch begins to follow the virtual networks of the scope; none at all is a scope too.
	Watch(ctx context.Context, scope ...overlay.RDID) (Watcher, error)
}

// Watcher follows the virtual networks of a scope. Next is called by one goroutine at a time, the other
// methods by any.
//
// A network's part of the policy is its subnets, its customer routes, and the records of its subnets. So a
// record enters the scope when its subnet does.
type Watcher interface {
	// Next waits for the next event and returns it. The first one is a snapshot. The others follow in
	// the order of their revisions, each transaction as a whole and none left out; where that is not
	// possible, as the watcher was too slow or the store was away, there is another snapshot.
	//
	// An error other than that of ctx is final: the caller watches anew.
	Next(ctx context.Context) (Event, error)

	// SetScope changes the scope. What enters and leaves it comes as one event.
	SetScope(scope ...overlay.RDID) error

	// Close ends the watch: Next returns ErrClosed from then on. A second call does nothing.
	Close() error
}

// Event is a step of the policy within the scope of a watcher.
type Event struct {
	// Revision is that of the policy with the event. Revisions never go back. Several events may have
	// the same one, as a change of the scope is no revision.
	Revision uint64

	// Snapshot says that Changes are the whole policy in scope, in place of all that was known.
	// Otherwise they are what has changed.
	Snapshot bool

	// Changes belong to the receiver, but the objects they point to must not be modified.
	Changes []overlay.Change
}
