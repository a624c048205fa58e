package natsstore

import (
	"context"
	"encoding/binary"
	"hash/crc64"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/overlay"
)

// inject writes a message into the log, made for where it will stand, and waits until it was read.
func inject(t *testing.T, s *Store, subject string, make func(after uint64) []byte) {
	t.Helper()
	var seen uint64
	require.Eventually(t, func() bool { // nothing else is on its way
		s.mu.Lock()
		cutting := s.cutting
		seen = s.r.seen
		s.mu.Unlock()
		log, err := s.js.Stream(context.Background(), s.o.Name)
		return err == nil && !cutting && log.CachedInfo().State.LastSeq == seen
	}, long, time.Millisecond)
	ack, err := s.js.Publish(t.Context(), subject, make(seen))
	require.NoError(t, err)
	require.Equal(t, seen+1, ack.Sequence)
	require.Eventually(t, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.r.seen >= ack.Sequence && s.online != nil
	}, long, time.Millisecond)
}

// Somebody who can write to the stream writes what is no transaction: it is refused, by those who follow
// and by those who come later, and all others go on.
func TestHostileMessages(t *testing.T) {
	s := open(t, &Options{Listen: "127.0.0.1:0", SnapshotAfter: 10})
	far := open(t, &Options{URL: s.ClientURL()})
	x := newHost(t, far, red)
	put(t, s, subnet(5001, red), record(5001, 1, 1))
	policy := []overlay.Change{subnet(5001, red), record(5001, 1, 1)}
	x.until(t, policy)

	evil := &transaction{networks: []network{{red, 12345}}, steps: []step{{0, record(5001, 66, 66)}}}
	encoded := func(tx *transaction, id, after uint64, size int) [][]byte {
		parts, err := tx.encode(id, after, size)
		require.NoError(t, err)
		return parts
	}
	truth := func() *transaction {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.r.prepare([]overlay.Change{record(5001, 66, 66)})
	}
	r := rand.New(rand.NewPCG(1, 2))
	subject := s.domainSubject(red)
	cases := []struct {
		name string
		make func(after uint64) []byte
	}{
		{"empty", func(uint64) []byte { return nil }},
		{"noise", func(uint64) []byte { return binary.BigEndian.AppendUint64(nil, r.Uint64()) }},
		{"kind", func(uint64) []byte { return appendHeader(nil, 99, 1) }},
		{"elsewhere", func(after uint64) []byte { return encoded(truth(), 1, after+1, largest)[0] }},
		{"forged", func(after uint64) []byte { return encoded(evil, 1, after, largest)[0] }},
		{"part", func(after uint64) []byte {
			b := encoded(truth(), 1, after-1, largest)[0]
			binary.BigEndian.PutUint32(b[headerLen+8:], 1)
			binary.BigEndian.PutUint32(b[headerLen+12:], 2)
			return b
		}},
		{"short", func(after uint64) []byte { b := encoded(truth(), 1, after, largest)[0]; return b[:len(b)-3] }},
		{"long", func(after uint64) []byte { return append(encoded(truth(), 1, after, largest)[0], 0) }},
		{"invalid", func(after uint64) []byte {
			bad := truth()
			bad.steps[0].Change = overlay.Change{Record: &overlay.LookupRecord{VSID: 1}}
			return encoded(bad, 1, after, largest)[0]
		}},
		{"another", func(after uint64) []byte {
			bad := truth()
			bad.steps[0].Change = subnet(5001, blue)
			return encoded(bad, 1, after, largest)[0]
		}},
	}
	n := byte(0)
	for _, c := range cases {
		before := s.Refused()
		inject(t, s, subject, c.make)
		require.Equal(t, before+1, s.Refused(), c.name)
		n++
		put(t, s, record(5001, 2, n))
		x.until(t, append(policy[:2:2], record(5001, 2, n)))
	}
	for range 2 { // to be read again once, as it may be true
		inject(t, s, s.cutSubject(), func(after uint64) []byte { return encodeCut(1, after) })
		n++
		put(t, s, record(5001, 2, n))
		x.until(t, append(policy[:2:2], record(5001, 2, n)))
	}
	require.Greater(t, s.Refused(), uint64(len(cases)))
	newHost(t, open(t, &Options{URL: s.ClientURL()}), red).until(t, append(policy[:2:2], record(5001, 2, n)))
	for range 30 { // the log is cut behind all that
		n++
		put(t, s, record(5001, 2, n))
	}
	late := open(t, &Options{URL: s.ClientURL()})
	newHost(t, late, red).until(t, append(policy[:2:2], record(5001, 2, n)))
	x.until(t, append(policy[:2:2], record(5001, 2, n)))
}

// A message of a later version cannot be left out: those who do not understand it stop there.
func TestNewerVersion(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	x := newHost(t, s, red)
	policy := []overlay.Change{subnet(5001, red), record(5001, 1, 1)}
	put(t, s, policy...)
	x.until(t, policy)
	b := appendHeader(nil, transactionMessage, 1)
	b[2] = version + 1
	_, err := s.js.Publish(t.Context(), s.domainSubject(red), b)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err = s.Commit(ctx, []overlay.Change{record(5001, 2, 1)})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.True(t, x.has(t, policy), "what is known stays")
	require.Zero(t, s.Refused())
}

// Snapshots that are corrupt are not taken, and those who have the policy write others.
func TestCorruptSnapshots(t *testing.T) {
	for _, c := range []struct {
		name  string
		entry func(good []byte) []byte
		wants string
	}{
		{"Noise", func([]byte) []byte { return []byte("noise") }, errCorrupt.Error()},
		{"Flipped", func(b []byte) []byte { b[len(b)-1] ^= 1; return b }, errCorrupt.Error()},
		{"Short", func(b []byte) []byte { return b[:len(b)-1] }, errCorrupt.Error()},
		{"Newer", func(b []byte) []byte { b[2]++; return b }, errNewer.Error()},
		{"MissingChunks", func(b []byte) []byte {
			e, _ := decodeSnapshot(b)
			e.chunks = 3
			return e.encode()
		}, "chunk 0"},
		{"NoObjects", func([]byte) []byte {
			e := snapshot{at: mark{1, 1}, payload: []byte{0, 0, 0, 9, 9}, size: 5}
			e.sum = crc64.Checksum(e.payload, crcTable)
			return e.encode()
		}, errShort.Error()},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := open(t, &Options{Listen: "127.0.0.1:0", SnapshotAfter: 5})
			policy := []overlay.Change{subnet(5001, red), record(5001, 1, 1)}
			put(t, s, policy...)
			last := byte(0)
			cut := func() {
				t.Helper()
				s.mu.Lock()
				before := s.r.cut
				s.mu.Unlock()
				for now := before; now == before; {
					require.Less(t, last, byte(250))
					last++
					put(t, s, record(5001, 2, last))
					require.Eventually(t, func() bool {
						s.mu.Lock()
						defer s.mu.Unlock()
						now = s.r.cut
						return !s.cutting
					}, long, time.Millisecond)
				}
			}
			cut()
			bucket, err := s.js.Stream(t.Context(), s.bucket)
			require.NoError(t, err)
			good, err := bucket.GetLastMsgForSubject(t.Context(), s.entrySubject(red))
			require.NoError(t, err)
			_, err = s.js.Publish(t.Context(), s.entrySubject(red), c.entry(good.Data))
			require.NoError(t, err)
			err = s.readSnapshots(t.Context(), []overlay.RDID{red}, func(id overlay.RDID, e *snapshot) error {
				_, err := decodeObjects(e.payload, id)
				return err
			})
			require.ErrorContains(t, err, c.wants)
			require.ErrorContains(t, err, red.String())

			if c.name == "Newer" { // that is for those who understand it
				return
			}
			late := newHost(t, open(t, &Options{URL: s.ClientURL()}), red)
			cut()
			late.until(t, append(policy[:2:2], record(5001, 2, last)))
		})
	}
}
