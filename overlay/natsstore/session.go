package natsstore

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hvswitch/hvswitch/overlay"
)

// Times of a session.
const (
	minRetry  = 20 * time.Millisecond
	maxRetry  = 2 * time.Second
	heartbeat = 5 * time.Second
	expiry    = 30 * time.Second // of a request for messages
	idle      = 2 * time.Minute  // after which the server forgets a consumer
	stall     = 10 * time.Second // without a message while there should be some

	// maxFetch is how many messages are on their way at a time.
	maxFetch = 128
)

// Ends of a session that are no failures.
var (
	errAgain = errors.New("other networks are to be followed")
	errLost  = errors.New("messages were lost on the way")
)

// errStalled says that messages which the server has announced have not come.
var errStalled = errors.New("the log does not go on")

// run follows the log until the store is closed.
func (s *Store) run() {
	wait := minRetry
	for {
		err := s.follow()
		s.mu.Lock()
		if s.online != nil {
			wait = minRetry
		}
		s.online, s.session, s.again = nil, nil, nil
		s.mu.Unlock()
		if s.ctx.Err() != nil {
			return
		}
		if errors.Is(err, errAgain) {
			continue
		}
		s.log.Warn("policy store: following the log", "store", s.o.Name, "error", err)
		if errors.Is(err, errMissed) {
			s.mu.Lock()
			s.reset()
			s.mu.Unlock()
		}
		select {
		case <-time.After(wait):
		case <-s.ctx.Done():
			return
		}
		wait = min(2*wait, maxRetry)
	}
}

// reset forgets the policy; watchers get a snapshot of the next one. The lock is held.
func (s *Store) reset() {
	old := s.r
	s.r = newReplica(old.whole)
	s.r.session = old.session
	for w := range s.all {
		w.lost()
		for id := range w.wanted {
			s.wants(id).watchers[w] = struct{}{}
		}
	}
}

// prune forgets networks that nobody follows. The lock is held.
func (s *Store) prune() {
	if s.r.whole {
		return
	}
	for id, d := range s.r.domains {
		if len(d.watchers) > 0 {
			continue
		}
		delete(s.r.domains, id)
	}
}

// session is one with the server: it takes the snapshots that the replica lacks, then the log.
type session struct {
	*Store
	ctx     context.Context
	log     jetstream.Stream
	start   uint64 // sequence number of the log to begin at
	shown   bool   // what was taken, to watchers and committers
	pending uint64 // messages to take before the replica is as far as the log was
	until   uint64 // sequence number to have seen before that
	end     uint64 // that of the log, if its last message is not there any more
	parts   [][]byte
	part    message // the newest one
	cut     uint64  // of a message that is suspect
}

// follow runs a session until it fails.
func (s *Store) follow() error {
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	s.mu.Lock()
	s.session = cancel
	s.r.session++
	s.r.forget()
	s.prune()
	s.mu.Unlock()
	n := session{Store: s, ctx: ctx}
	if err := n.open(); err != nil {
		return err
	}
	c, err := n.consume()
	if err != nil {
		return err
	}
	return n.read(c, cancel)
}

// read takes messages of the log until the session ends; cancel ends it.
func (n *session) read(c jetstream.Consumer, cancel context.CancelFunc) error {
	s, ctx := n.Store, n.ctx
	name := c.CachedInfo().Name
	defer func() { // the server would see that it is idle, but later
		if s.nc.IsConnected() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			_ = s.js.DeleteConsumer(ctx, s.o.Name, name)
		}
	}()
	messages, err := c.Messages(jetstream.PullMaxMessages(maxFetch), jetstream.PullExpiry(expiry), jetstream.PullHeartbeat(heartbeat))
	if err != nil {
		return err
	}
	defer messages.Stop()
	defer context.AfterFunc(ctx, messages.Stop)()
	var stalled atomic.Bool
	watchdog := time.AfterFunc(stall, func() { stalled.Store(true); cancel() })
	defer watchdog.Stop()
	for next := uint64(1); ; next++ {
		if err := n.caughtUp(cancel); err != nil {
			return err
		}
		if n.shown {
			watchdog.Stop()
		} else {
			watchdog.Reset(stall)
		}
		msg, err := messages.Next()
		if err != nil {
			s.mu.Lock()
			defer s.mu.Unlock()
			switch {
			case stalled.Load():
				return fmt.Errorf("%w: at %d, with %d messages more and %d to be seen", errStalled, s.r.seen, n.pending, n.until)
			case s.more():
				return errAgain
			case ctx.Err() != nil:
				return errLost
			}
			return err
		}
		m, err := msg.Metadata()
		if err != nil {
			return err
		}
		if m.Sequence.Consumer != next {
			return errLost
		}
		n.pending = min(n.pending-min(n.pending, 1), m.NumPending) // less if the log was cut meanwhile
		err = n.take(msg.Data(), m.Sequence.Stream)
		switch {
		case errors.Is(err, errCut):
			err = n.suspect(m.Sequence.Stream)
		case errors.Is(err, errForged): // unless what it follows was cut
			forged := err
			if err = n.uncut(); err == nil {
				n.refuse(m.Sequence.Stream, forged)
			}
		}
		if err != nil {
			return err
		}
	}
}

// open finds where to begin, and takes snapshots of the networks that the replica lacks.
func (n *session) open() (err error) {
	if n.log, err = n.js.Stream(n.ctx, n.o.Name); err != nil {
		return err
	}
	first := max(n.log.CachedInfo().State.FirstSeq, 1)
	n.mu.Lock()
	tip := n.r.tip
	n.mu.Unlock()
	if tip.seq != 0 {
		ok, err := n.has(tip)
		if err != nil {
			return err
		}
		if !ok {
			n.Store.log.Warn("policy store: the log does not have what was read of it", "store", n.o.Name, "sequence", tip.seq)
			n.mu.Lock()
			n.reset()
			n.mu.Unlock()
			tip = mark{}
		}
	}
	fetched, err := n.fetchAll()
	if err != nil {
		return err
	}
	n.start = tip.seq + 1
	if fetched || tip.seq == 0 {
		n.start = first
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.r.seen, n.turn = n.start-1, turn{}
	if n.start == first { // what comes may be older than the newest cut that was read
		n.r.cut = 0
	}
	return nil
}

// has reports whether the log still has a message.
func (n *session) has(m mark) (bool, error) {
	msg, err := n.log.GetMsg(n.ctx, m.seq)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	got, err := decodeMessage(msg.Data)
	return err == nil && got.id == m.id, nil
}

// consume begins to read the log.
func (n *session) consume() (jetstream.Consumer, error) {
	n.mu.Lock()
	whole := n.r.loaded
	subjects := []string{n.o.Name + ".>"}
	highest := n.r.fetched
	if !whole {
		subjects = []string{n.cutSubject(), n.manySubject()}
		for id, d := range n.r.domains {
			if d.fetched != 0 {
				subjects = append(subjects, n.domainSubject(id))
			}
		}
	}
	n.mu.Unlock()
	c, err := n.js.CreateConsumer(n.ctx, n.o.Name, jetstream.ConsumerConfig{
		FilterSubjects: subjects, DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: n.start,
		AckPolicy: jetstream.AckNonePolicy, InactiveThreshold: idle, MemoryStorage: true, Replicas: 1,
	})
	if err != nil {
		return nil, err
	}
	info, err := n.log.Info(n.ctx)
	if err != nil {
		return nil, err
	}
	state := info.State
	switch {
	case state.FirstSeq > n.start: // it was cut meanwhile, and the snapshots may be too old
		return nil, fmt.Errorf("%w: the log begins at %d and not at %d", errMissed, state.FirstSeq, n.start)
	case highest > state.LastSeq:
		return nil, fmt.Errorf("%w: a snapshot is of %d, the stream ends at %d", errCopies, highest, state.LastSeq)
	case whole && state.Msgs > 0:
		_, err := n.log.GetMsg(n.ctx, state.LastSeq)
		switch {
		case err == nil:
			n.until = state.LastSeq
		case errors.Is(err, jetstream.ErrMsgNotFound):
			n.end = state.LastSeq
			n.pending = c.CachedInfo().NumPending
		default:
			return nil, err
		}
	case whole:
		n.end = state.LastSeq
	default:
		n.pending = c.CachedInfo().NumPending
		if highest >= n.start {
			n.until = highest
		}
	}
	return c, nil
}

// more reports whether there are networks that the replica lacks. The lock is held.
func (s *Store) more() bool {
	if s.r.whole {
		return !s.r.loaded
	}
	for _, d := range s.r.domains {
		if d.fetched == 0 {
			return true
		}
	}
	return false
}

// caughtUp shows watchers and committers what has been taken, once it is as far as the log was.
func (n *session) caughtUp(cancel context.CancelFunc) error {
	n.mu.Lock()
	done := n.pending == 0 && n.r.seen >= n.until
	n.mu.Unlock()
	if n.shown || !done {
		return nil
	}
	if err := n.uncut(); err != nil {
		return err
	}
	n.shown = true
	return n.show(cancel)
}

// uncut returns an error if the log was cut further than it was read.
func (n *session) uncut() error {
	info, err := n.log.Info(n.ctx)
	if err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if read := max(n.r.cut, n.start-1); info.State.FirstSeq > read+1 {
		return fmt.Errorf("%w: the log was cut at %d, it was read from %d on", errMissed, info.State.FirstSeq-1, n.start)
	}
	return nil
}

// show makes what has been taken visible.
func (n *session) show(cancel context.CancelFunc) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	r := n.r
	r.seen = max(r.seen, n.end)
	r.revision = max(r.revision, r.fetched)
	for _, d := range r.domains {
		d.ready = d.ready || d.fetched != 0
	}
	r.live = true
	r.locate()
	for w := range n.waiting {
		w.settle()
	}
	if n.more() {
		return errAgain
	}
	n.online, n.again = n.ctx, cancel
	n.moved()
	return nil
}

// refuse leaves out a message. All who read it do, as they come to the same conclusion.
func (n *session) refuse(seq uint64, err error) {
	n.refused.Add(1)
	n.Store.log.Error("policy store: message refused", "store", n.o.Name, "sequence", seq, "error", err)
}

// take takes a message of the log.
func (n *session) take(data []byte, seq uint64) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.r.seen = seq
	n.size += len(data)
	defer n.moved()
	m, err := decodeMessage(data)
	switch {
	case errors.Is(err, errNewer):
		return fmt.Errorf("message %d %w", seq, err)
	case err != nil:
		n.refuse(seq, err)
		return nil
	case m.kind == cutMessage:
		return n.takeCut(&m, seq)
	case m.kind == turnMessage:
		n.turn = turn{m.id, time.Now()}
		return nil
	case m.after+uint64(m.part)+1 != seq:
		n.refuse(seq, fmt.Errorf("was made to stand at %d", m.after+uint64(m.part)+1))
		return nil
	case m.part == 0:
		n.parts = nil
	case n.parts == nil || m.id != n.part.id || m.part != n.part.part+1 || m.parts != n.part.parts || m.after != n.part.after:
		n.refuse(seq, errors.New("is a part without the one before"))
		n.parts = nil
		return nil
	}
	n.parts, n.part = append(n.parts, m.payload), m
	if m.part+1 < m.parts {
		n.turn = turn{m.id, time.Now()}
		return nil
	}
	n.turn = turn{} // was it not its own, others waited for it long enough
	payload := join(n.parts)
	n.parts = nil
	t, err := decodeTransaction(payload)
	if err == nil {
		err = n.r.check(t, mark{seq, m.id})
		if errors.Is(err, errMissed) || errors.Is(err, errCopies) || errors.Is(err, errForged) && !n.shown {
			return err
		}
	}
	if err != nil {
		n.refuse(seq, err)
		return nil
	}
	n.r.apply(t, mark{seq, m.id})
	if seq > n.r.tip.seq {
		n.r.tip = mark{seq, m.id}
	}
	if m.id == n.mine.id {
		n.mine.seq = seq
	}
	return nil
}

func join(parts [][]byte) []byte {
	if len(parts) == 1 {
		return parts[0]
	}
	var b []byte
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}

// errCut says that a message cuts the log at one that has not been read.
var errCut = errors.New("the log is cut further than it was read")

// takeCut takes note that the log is cut up to the cut before, which must have been read.
func (n *session) takeCut(m *message, seq uint64) error {
	if m.cut > max(n.r.cut, n.start-1) {
		n.cut = m.cut
		return errCut
	}
	n.r.cut = max(n.r.cut, seq)
	n.size = 0
	if seq > n.r.tip.seq {
		n.r.tip = mark{seq, m.id}
	}
	return nil
}

// suspect finds out whether the log was really cut.
func (n *session) suspect(seq uint64) error {
	info, err := n.log.Info(n.ctx)
	if err != nil {
		return err
	}
	if info.State.FirstSeq > n.cut {
		return fmt.Errorf("%w: the log was cut at %d", errMissed, n.cut)
	}
	n.refuse(seq, fmt.Errorf("cuts the log at %d, where there is no cut", n.cut))
	return nil
}

// fetchAll takes the snapshots that the replica lacks, and reports whether there were any to take.
func (n *session) fetchAll() (fetched bool, err error) {
	n.mu.Lock()
	r := n.r
	whole := r.whole && !r.loaded
	var ids []overlay.RDID
	for id, d := range r.domains {
		if d.fetched == 0 {
			ids = append(ids, id)
		}
	}
	n.mu.Unlock()
	if whole {
		if ids, err = n.listSnapshots(n.ctx); err != nil {
			return false, err
		}
	}
	if len(ids) == 0 && !whole {
		return false, nil
	}
	err = n.readSnapshots(n.ctx, ids, func(id overlay.RDID, s *snapshot) error {
		n.mu.Lock()
		defer n.mu.Unlock()
		d := r.domains[id]
		if d == nil && !whole {
			return nil // nobody follows it any more
		}
		if d == nil {
			d = newDomain(id)
			r.domains[id] = d
		}
		if d.fetched != 0 {
			return nil
		}
		if s == nil {
			d.fetched = r.session
			return nil
		}
		return r.fetch(d, s)
	})
	if err == nil && whole {
		n.mu.Lock()
		defer n.mu.Unlock()
		r.loaded, r.live = true, false
		for _, d := range r.domains {
			if d.fetched == 0 {
				d.fetched = r.session
			}
		}
	}
	return true, err
}
