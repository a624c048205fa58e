package natsstore

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc64"
	"strings"
	"sync"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hvswitch/hvswitch/overlay"
)

// readers is how many snapshots are read at a time.
const readers = 16

// listSnapshots returns the networks that have a snapshot.
func (s *Store) listSnapshots(ctx context.Context) (ids []overlay.RDID, err error) {
	b, err := s.js.Stream(ctx, s.bucket)
	if err != nil {
		return nil, err
	}
	prefix := "$KV." + s.o.Name + ".d."
	info, err := b.Info(ctx, jetstream.WithSubjectFilter(prefix+"*"))
	if err != nil {
		return nil, err
	}
	for subject := range info.State.Subjects {
		var id overlay.RDID
		h, err := hex.DecodeString(strings.TrimPrefix(subject, prefix))
		if err != nil || len(h) != len(id) {
			s.log.Error("policy store: entry of the bucket refused", "store", s.o.Name, "key", subject)
			continue
		}
		copy(id[:], h)
		ids = append(ids, id)
	}
	return ids, nil
}

// readSnapshots calls take with the snapshot of each network, nil for those without, one at a time. It
// ends at the first error.
func (s *Store) readSnapshots(ctx context.Context, ids []overlay.RDID, take func(overlay.RDID, *snapshot) error) error {
	b, err := s.js.Stream(ctx, s.bucket)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	work := make(chan overlay.RDID)
	var wg sync.WaitGroup
	var mu sync.Mutex
	for range min(readers, len(ids)) {
		wg.Go(func() {
			for id := range work {
				e, _, err := s.readSnapshot(ctx, b, id)
				if err == nil {
					mu.Lock()
					err = take(id, e)
					mu.Unlock()
				}
				if err != nil {
					cancel(fmt.Errorf("snapshot of network %s: %w", id, err))
				}
			}
		})
	}
	for _, id := range ids {
		if ctx.Err() != nil {
			break
		}
		work <- id
	}
	close(work)
	wg.Wait()
	return context.Cause(ctx)
}

// errCorrupt says that an entry of the bucket is none.
var errCorrupt = errors.New("entry is corrupt")

// readEntry returns the entry of a network, nil if there is none, and its sequence number in the bucket,
// also with errCorrupt.
func (s *Store) readEntry(ctx context.Context, b jetstream.Stream, id overlay.RDID) (*snapshot, uint64, error) {
	msg, err := b.GetLastMsgForSubject(ctx, s.entrySubject(id))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	e, err := decodeSnapshot(msg.Data)
	if errors.Is(err, errNewer) {
		return nil, 0, err
	}
	if err != nil {
		return nil, msg.Sequence, fmt.Errorf("%w: %w", errCorrupt, err)
	}
	return &e, msg.Sequence, nil
}

// readSnapshot returns the snapshot of a network as readEntry does, with all its payload.
func (s *Store) readSnapshot(ctx context.Context, b jetstream.Stream, id overlay.RDID) (*snapshot, uint64, error) {
	e, seq, err := s.readEntry(ctx, b, id)
	if err != nil || e == nil {
		return nil, 0, err
	}
	for i := range e.chunks {
		msg, err := b.GetLastMsgForSubject(ctx, fmt.Sprintf("%s.%d", s.chunksSubject(id, e.generation), i))
		if err != nil { // also when another one has taken its place
			return nil, 0, fmt.Errorf("chunk %d: %w", i, err)
		}
		if e.payload = append(e.payload, msg.Data...); uint64(len(e.payload)) > e.size {
			break
		}
	}
	if err := e.check(); err != nil {
		return nil, 0, fmt.Errorf("%w: %w", errCorrupt, err)
	}
	return e, seq, nil
}

// writeSnapshot puts a snapshot into the bucket unless there is a newer one, and returns the revision of
// the one that is there then.
func (s *Store) writeSnapshot(ctx context.Context, b jetstream.Stream, id overlay.RDID, at mark, payload []byte) (uint64, error) {
	size := s.maxMessage()
	e := snapshot{at: at, size: uint64(len(payload)), sum: crc64.Checksum(payload, crcTable)}
	if len(payload) <= size-snapshotLen {
		e.payload = payload
	} else {
		e.generation = newID()
		for ; len(payload) > 0; e.chunks++ {
			chunk := payload[:min(size, len(payload))]
			payload = payload[len(chunk):]
			subject := fmt.Sprintf("%s.%d", s.chunksSubject(id, e.generation), e.chunks)
			if _, err := s.js.Publish(ctx, subject, chunk); err != nil {
				return 0, err
			}
		}
	}
	for {
		old, seq, err := s.readEntry(ctx, b, id)
		if err != nil && !errors.Is(err, errCorrupt) {
			return 0, err
		}
		if old != nil && old.at.seq >= at.seq {
			return old.at.seq, s.dropChunks(ctx, b, id, &e)
		}
		_, err = s.js.Publish(ctx, s.entrySubject(id), e.encode(), jetstream.WithExpectLastSequencePerSubject(seq))
		switch {
		case isConflict(err):
			continue
		case err != nil:
			return 0, err
		case old != nil:
			return at.seq, s.dropChunks(ctx, b, id, old)
		}
		return at.seq, nil
	}
}

func (s *Store) dropChunks(ctx context.Context, b jetstream.Stream, id overlay.RDID, e *snapshot) error {
	if e.chunks == 0 {
		return nil
	}
	return b.Purge(ctx, jetstream.WithPurgeSubject(s.chunksSubject(id, e.generation)+".*"))
}

// maxSize is how many bytes the log may grow before it is cut.
const maxSize = 64 << 20

// cutSoon writes snapshots and cuts the log if it has grown enough. The lock is held.
func (s *Store) cutSoon() {
	if s.closed || s.cutting || s.online == nil || !s.r.loaded ||
		s.r.seen-s.r.cut < uint64(s.o.SnapshotAfter) && s.size < maxSize {
		return
	}
	s.cutting = true
	ctx := s.online
	s.wg.Go(func() {
		err := s.cut(ctx)
		s.mu.Lock()
		s.cutting = false
		s.mu.Unlock()
		if err != nil && ctx.Err() == nil {
			s.log.Warn("policy store: snapshots", "store", s.o.Name, "error", err)
		}
	})
}

// cut writes snapshots of the networks that have changed, says so in the log, and purges the log up to
// the cut before, which all snapshots are newer than. ctx ends with the session, so that what was read
// from a log is not written beside another one.
func (s *Store) cut(ctx context.Context) error {
	b, err := s.js.Stream(ctx, s.bucket)
	if err != nil {
		return err
	}
	s.mu.Lock()
	r, before := s.r, s.r.cut
	var changed []*domain
	for _, d := range r.domains {
		if d.at.seq > d.saved {
			changed = append(changed, d)
		}
	}
	s.mu.Unlock()
	for _, d := range changed {
		s.mu.Lock()
		if s.r != r {
			s.mu.Unlock()
			return errMissed
		}
		at, payload := d.at, d.encode()
		s.mu.Unlock()
		saved, err := s.writeSnapshot(ctx, b, d.id, at, payload)
		if err != nil {
			return fmt.Errorf("network %s: %w", d.id, err)
		}
		s.mu.Lock()
		d.saved = max(d.saved, saved)
		s.mu.Unlock()
	}
	select { // a commit would come in between
	case s.committing <- struct{}{}:
		defer func() { <-s.committing }()
	case <-ctx.Done():
		return ctx.Err()
	}
	log, err := s.js.Stream(ctx, s.o.Name)
	if err != nil {
		return err
	}
	last := uint64(0) // cut, also one that was refused
	switch msg, err := log.GetLastMsgForSubject(ctx, s.cutSubject()); {
	case err == nil:
		last = msg.Sequence
	case !errors.Is(err, jetstream.ErrMsgNotFound):
		return err
	}
	_, err = s.js.Publish(ctx, s.cutSubject(), encodeCut(newID(), before), jetstream.WithExpectLastSequencePerSubject(last))
	if isConflict(err) {
		return nil // another process has done the same
	}
	if err != nil || before == 0 {
		return err
	}
	return log.Purge(ctx, jetstream.WithPurgeSequence(before+1))
}
