package natsstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hvswitch/hvswitch/overlay"
	"github.com/hvswitch/hvswitch/overlay/store"
)

// ErrUncertain says that a transaction may have been made: it was sent, the answer was lost, and the log
// does not go back far enough to tell.
var ErrUncertain = errors.New("the transaction may have been made")

// Commit implements store.Store. While the server is away it waits; ctx bounds that. If it cannot be told
// whether the transaction was made, the error is ErrUncertain.
func (s *Store) Commit(ctx context.Context, changes []overlay.Change) (revision uint64, err error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	for i := range changes {
		if err := changes[i].Validate(); err != nil {
			return 0, err
		}
	}
	both, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	c := commit{Store: s, ctx: both, changes: changes, id: newID()}
	select {
	case s.committing <- struct{}{}:
		revision, err = c.run()
		<-s.committing
	case <-both.Done():
		err = both.Err()
	}
	if err != nil && s.ctx.Err() != nil {
		return 0, store.ErrClosed
	}
	if err != nil {
		return 0, err
	}
	s.mu.Lock()
	s.cutSoon()
	s.mu.Unlock()
	return revision, nil
}

// commit is one that is being made.
type commit struct {
	*Store
	ctx     context.Context
	changes []overlay.Change
	id      uint64
	base    *replica // that the transaction was made from
	sent    bool     // and not refused
	at      uint64   // the number after which it was sent last

	conflicts int
}

// turn says that other committers wait, for one whose transactions take so long to make that somebody
// else was always faster, or for the parts of a large one.
type turn struct {
	id    uint64 // of the transaction; 0 for none
	since time.Time
}

const (
	patience    = 2               // conflicts before a turn is asked for
	turnTimeout = 5 * time.Second // of one whose process is gone
)

// askForTurn asks the others to wait, and returns where that stands in the log.
func (c *commit) askForTurn(online context.Context) (uint64, error) {
	ctx, cancel := context.WithTimeout(c.ctx, publishTimeout)
	defer cancel()
	defer context.AfterFunc(online, cancel)()
	ack, err := c.js.Publish(ctx, c.turnSubject(), appendHeader(nil, turnMessage, c.id))
	if err != nil {
		return 0, err
	}
	return ack.Sequence, nil
}

func (c *commit) run() (revision uint64, err error) {
	c.mu.Lock()
	c.mine = mark{0, c.id}
	c.mu.Unlock()
	for {
		online, after, t, err := c.prepare()
		if err != nil {
			return 0, c.unknown(err)
		}
		if t == nil {
			return after, nil
		}
		parts, err := t.encode(c.id, after, c.maxMessage())
		if err != nil {
			return 0, err
		}
		doubt := c.sent && c.at == after // the one sent before may be what is in the way now
		c.at = after
		at, err := c.publish(online, c.subject(t), parts, after)
		if isConflict(err) {
			at, c.sent = after+1, doubt
			if c.conflicts++; c.conflicts < patience {
				err = nil
			} else {
				at, err = c.askForTurn(online)
			}
		}
		if err == nil {
			err = c.await(at)
		} else if c.ctx.Err() == nil {
			c.log.Warn("policy store: commit", "store", c.o.Name, "error", err)
			err = c.wait(nil, minRetry)
		}
		if err != nil {
			return 0, c.unknown(err)
		}
	}
}

func (c *commit) unknown(err error) error {
	if c.sent {
		return fmt.Errorf("policy store: %w: %w", ErrUncertain, err)
	}
	return err
}

// look is how often what is waited for is looked at anyway.
const look = time.Second

// prepare waits until the replica is as far as the log, and makes the transaction; nil if it has been
// made, at the number returned. online is as in Store.
func (c *commit) prepare() (online context.Context, after uint64, t *transaction, err error) {
	for {
		c.mu.Lock()
		if c.mine.seq != 0 {
			defer c.mu.Unlock()
			return nil, c.mine.seq, nil, nil
		}
		if !c.r.whole {
			c.r.whole = true
			c.reload()
		}
		others := c.turn.id != 0 && c.turn.id != c.id && time.Since(c.turn.since) < turnTimeout
		if c.online != nil && c.r.loaded && !others {
			defer c.mu.Unlock()
			if c.sent && c.base != c.r { // it may be in the snapshots
				return nil, 0, nil, errMissed
			}
			c.base = c.r
			return c.online, c.r.seen, c.r.prepare(c.changes), nil
		}
		progress := c.progress
		c.mu.Unlock()
		if err := c.wait(progress, look); err != nil {
			return nil, 0, nil, err
		}
	}
}

func (c *commit) wait(progress chan struct{}, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-progress:
	case <-timer.C:
	case <-c.ctx.Done():
		return c.ctx.Err()
	}
	return nil
}

// await waits until the replica has seen a message, or has to be looked at again.
func (c *commit) await(seq uint64) error {
	for {
		c.mu.Lock()
		progress, done := c.progress, c.online == nil || c.r.seen >= seq
		c.mu.Unlock()
		if done {
			return nil
		}
		if err := c.wait(progress, look); err != nil {
			return err
		}
	}
}

// publishTimeout is how long the server may take to answer.
const publishTimeout = 5 * time.Second

// publish sends the parts of a transaction, and returns the number of the last. When the session ends
// the answer is not waited for, as it may be lost.
func (c *commit) publish(online context.Context, subject string, parts [][]byte, after uint64) (uint64, error) {
	ctx, cancel := context.WithCancel(c.ctx)
	defer cancel()
	defer context.AfterFunc(online, cancel)()
	for i, p := range parts {
		ctx, cancel := context.WithTimeout(ctx, publishTimeout)
		c.sent = c.sent || i == len(parts)-1
		_, err := c.js.Publish(ctx, subject, p, jetstream.WithExpectLastSequence(after+uint64(i)))
		cancel()
		if err != nil {
			return 0, err
		}
	}
	return after + uint64(len(parts)), nil
}

// isConflict reports whether another one was faster.
func isConflict(err error) bool {
	var e *jetstream.APIError
	return errors.As(err, &e) && (e.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence ||
		e.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant)
}

// Bounds of a message's size in bytes; between them it is half of what the server takes, as that counts
// headers too.
const (
	smallest = 1 << 10
	largest  = 512 << 10
)

func (s *Store) maxMessage() int {
	return max(smallest, min(largest, int(s.nc.MaxPayload()/2)))
}
