package natsstore

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hvswitch/hvswitch/overlay"
	"github.com/hvswitch/hvswitch/overlay/store"
)

// ErrRestored says that the revisions of the store have gone back, as it was restored from an older copy
// or made anew. Whoever followed it watches anew.
var ErrRestored = errors.New("policy store has gone back to an older revision")

// maxFilters is how many networks a process asks the server for one by one.
const maxFilters = 64

// Store is a store.Store on JetStream. Its methods may be called from any goroutine.
type Store struct {
	o      Options
	log    *slog.Logger
	server *embedded // nil without
	nc     *nats.Conn
	js     jetstream.JetStream
	bucket string // stream of the bucket

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	committing chan struct{} // holds a token while there is a commit or a cut
	refused    atomic.Uint64

	mu       sync.Mutex
	closed   bool
	r        *replica
	all      map[*watcher]struct{}
	waiting  map[*watcher]struct{} // for domains that are not ready
	progress chan struct{}         // closed at the next change of what others wait for
	online   context.Context       // of the session, while the replica is as far as the log; else nil
	session  context.CancelFunc    // ends the session
	again    context.CancelFunc    // ends it to follow other networks; nil when it looks for them anyway
	mine     mark                  // the transaction being made here; seq is 0 until it is in the replica
	turn     turn
	size     int // bytes of the log since the newest cut
	cutting  bool
}

var _ store.Store = (*Store)(nil)

// Open opens a store, and makes its stream and bucket if they are not there. A nil o is one embedded in
// memory. ctx is for Open alone.
func Open(ctx context.Context, o *Options) (*Store, error) {
	c, err := o.complete()
	if err != nil {
		return nil, err
	}
	s := &Store{
		o: c, log: c.Logger, bucket: "KV_" + c.Name, committing: make(chan struct{}, 1), r: newReplica(false),
		all: map[*watcher]struct{}{}, waiting: map[*watcher]struct{}{}, progress: make(chan struct{}),
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	if err := s.open(ctx); err != nil {
		_ = s.Close()
		return nil, err
	}
	s.wg.Go(s.run)
	return s, nil
}

func (s *Store) open(ctx context.Context) (err error) {
	options := []nats.Option{
		nats.Name("hvswitch policy " + s.o.Name), nats.MaxReconnects(-1), nats.ReconnectBufSize(-1),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) { s.disconnected(err) }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			s.log.Debug("policy store: connection", "error", err)
		}),
	}
	if s.o.URL == "" {
		if s.server, err = startServer(&s.o); err != nil {
			return err
		}
		options = append(options, nats.InProcessServer(s.server.Server))
	}
	if s.nc, err = nats.Connect(s.o.URL, append(options, s.o.Connect...)...); err != nil {
		return fmt.Errorf("policy store: %w", err)
	}
	if s.js, err = jetstream.New(s.nc); err != nil {
		return fmt.Errorf("policy store: %w", err)
	}
	if err := s.create(ctx); err != nil {
		return fmt.Errorf("policy store %s: %w", s.o.Name, err)
	}
	return nil
}

// create makes the stream and the bucket unless they are there.
func (s *Store) create(ctx context.Context) error {
	storage := jetstream.FileStorage
	if s.o.URL == "" && s.o.Dir == "" {
		storage = jetstream.MemoryStorage
	}
	_, err := s.js.Stream(ctx, s.o.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		_, err = s.js.CreateStream(ctx, jetstream.StreamConfig{
			Name: s.o.Name, Description: "log of the policy of virtual networks", Subjects: []string{s.o.Name + ".>"},
			Storage: storage, Replicas: s.o.Replicas, DenyDelete: true,
		})
	}
	if err != nil && !errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
		return err
	}
	_, err = s.js.Stream(ctx, s.bucket)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		_, err = s.js.CreateKeyValue(ctx, jetstream.KeyValueConfig{
			Bucket: s.o.Name, Description: "snapshots of the policy of virtual networks", Storage: storage, Replicas: s.o.Replicas,
		})
		if errors.Is(err, jetstream.ErrBucketExists) {
			err = nil
		}
	}
	if err != nil {
		return err
	}
	b, err := s.js.Stream(ctx, s.bucket)
	if err != nil {
		return err
	}
	if c := b.CachedInfo().Config; c.AllowDirect { // replicas that lag behind would answer too
		c.AllowDirect = false
		_, err = s.js.UpdateStream(ctx, c)
	}
	return err
}

// Close ends the store with its watchers and its embedded server. A second call does nothing.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	for w := range s.all {
		w.wake()
	}
	s.moved()
	s.mu.Unlock()
	s.cancel()
	s.wg.Wait()
	if s.nc != nil {
		s.nc.Close()
	}
	if s.server != nil {
		s.server.stop()
	}
	return nil
}

// ClientURL returns where other processes reach the embedded server; empty if there is no listener.
func (s *Store) ClientURL() string {
	if s.server == nil || s.o.Listen == "" {
		return ""
	}
	return s.server.ClientURL()
}

// Refused returns how many messages have been refused: those that are no transactions, or were not made
// from the state they stand behind.
func (s *Store) Refused() uint64 { return s.refused.Load() }

// moved wakes those who wait for the replica. The lock is held.
func (s *Store) moved() {
	close(s.progress)
	s.progress = make(chan struct{})
}

// disconnected ends what goes on with the server, as messages may have been lost.
func (s *Store) disconnected(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.log.Warn("policy store: connection lost", "store", s.o.Name, "error", err)
	if s.session != nil {
		s.session()
	}
}

// wants makes a network one of those that the replica has. The lock is held.
func (s *Store) wants(id overlay.RDID) *domain {
	if d := s.r.domain(id); d != nil {
		return d
	}
	d := newDomain(id)
	s.r.domains[id] = d
	if len(s.r.domains) > maxFilters {
		s.r.whole = true
	}
	s.reload()
	return d
}

// reload makes the session follow what the replica shall have. The lock is held.
func (s *Store) reload() {
	if s.again != nil {
		s.again()
	}
}

// Names of subjects in the log, and of keys in the bucket.

func (s *Store) cutSubject() string  { return s.o.Name + ".cut" }
func (s *Store) manySubject() string { return s.o.Name + ".many" }
func (s *Store) turnSubject() string { return s.o.Name + ".turn" }

func (s *Store) subject(t *transaction) string {
	switch len(t.networks) {
	case 0:
		return s.domainSubject(overlay.RDID{})
	case 1:
		return s.domainSubject(t.networks[0].id)
	}
	return s.manySubject()
}

func (s *Store) domainSubject(id overlay.RDID) string {
	return s.o.Name + ".network." + hex.EncodeToString(id[:])
}

func (s *Store) entrySubject(id overlay.RDID) string {
	return "$KV." + s.o.Name + ".d." + hex.EncodeToString(id[:])
}

func (s *Store) chunksSubject(id overlay.RDID, generation uint64) string {
	return fmt.Sprintf("$KV.%s.c.%x.%016x", s.o.Name, id[:], generation)
}

// newID returns the id of a message, which is never 0.
func newID() uint64 { return rand.Uint64() | 1 }
