package ports

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestReadFrameWaitsForWriteFrame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newPipe(t, nil)
		start := time.Now()
		go func() {
			time.Sleep(time.Hour)
			a.WriteFrame(t.Context(), ethernet(46, 0x0800))
		}()
		buf := make([]byte, 100)
		n, err := b.ReadFrame(t.Context(), buf)
		require.NoError(t, err)
		require.Equal(t, ethernet(46, 0x0800), buf[:n])
		require.Equal(t, time.Hour, time.Since(start))
	})
}

func TestWriteFrameWaitsForRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newPipe(t, &PipeConfig{Depth: 1})
		start := time.Now()
		var took time.Duration
		done := make(chan error)
		go func() {
			require.NoError(t, a.WriteFrame(t.Context(), ethernet(46, 1)))
			err := a.WriteFrame(t.Context(), ethernet(46, 2))
			took = time.Since(start)
			done <- err
		}()
		time.Sleep(time.Minute)
		buf := make([]byte, 60)
		for want := uint16(1); want <= 2; want++ {
			_, err := b.ReadFrame(t.Context(), buf)
			require.NoError(t, err)
			require.Equal(t, want, binary.BigEndian.Uint16(buf[12:]))
		}
		require.NoError(t, <-done)
		require.Equal(t, time.Minute, took)
	})
}

func TestFrameThatWasReadMakesRoom(t *testing.T) {
	a, b := newPipe(t, &PipeConfig{Depth: 2})
	write := func() error {
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // do what can be done at once
		return a.WriteFrame(ctx, ethernet(46, 1))
	}
	require.NoError(t, write())
	require.NoError(t, write())
	require.ErrorIs(t, write(), context.Canceled)
	_, err := b.ReadFrame(t.Context(), make([]byte, 60))
	require.NoError(t, err)
	require.NoError(t, write())
}

func TestFrameIOEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newPipe(t, &PipeConfig{Depth: 1})
		require.NoError(t, a.WriteFrame(t.Context(), ethernet(46, 1)))
		start := time.Now()
		soon, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, a.WriteFrame(soon, ethernet(46, 2)), context.DeadlineExceeded)

		buf := make([]byte, 60)
		_, err := b.ReadFrame(soon, buf)
		require.NoError(t, err, "what is there can be read whatever the context")
		require.EqualValues(t, 1, buf[13], "a frame that was given up is not sent")
		later, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = b.ReadFrame(later, buf)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, 2*time.Second, time.Since(start))

		// A wake-up that nobody waited for does no harm.
		require.NoError(t, a.WriteFrame(t.Context(), ethernet(46, 3)))
		_, err = b.ReadFrame(t.Context(), buf)
		require.NoError(t, err)
		require.EqualValues(t, 3, buf[13])
	})
}

// One who waits behind another has a context of its own.
func TestFrameIOEndsWithItsContextBehindAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newPipe(t, &PipeConfig{Depth: 1})
		require.NoError(t, a.WriteFrame(t.Context(), ethernet(46, 1)))
		forever, cancel := context.WithCancel(t.Context())
		var others sync.WaitGroup
		others.Go(func() { a.WriteFrame(forever, ethernet(46, 2)) })
		others.Go(func() { a.ReadFrame(forever, nil) })
		synctest.Wait()

		soon, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		require.ErrorIs(t, a.WriteFrame(soon, ethernet(46, 3)), context.DeadlineExceeded)
		_, err := a.ReadFrame(soon, nil)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		cancel()
		others.Wait()
		_ = b
	})
}

func TestCloseWakesReadersAndWriters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newPipe(t, &PipeConfig{Depth: 1})
		require.NoError(t, a.WriteFrame(t.Context(), ethernet(46, 1)))
		errs := make(chan error, 6)
		for range 3 {
			go func() { errs <- a.WriteFrame(t.Context(), ethernet(46, 2)) }()
			go func() {
				_, err := a.ReadFrame(t.Context(), nil)
				errs <- err
			}()
		}
		synctest.Wait()
		require.Empty(t, errs)
		require.NoError(t, b.Close())
		for range 6 {
			require.ErrorIs(t, <-errs, ErrClosed)
		}
		n, err := b.ReadFrame(t.Context(), make([]byte, 60))
		require.NoError(t, err, "what was sent before Close can be read")
		require.Equal(t, 60, n)
		_, err = b.ReadFrame(t.Context(), nil)
		require.ErrorIs(t, err, ErrClosed)
	})
}

func TestFrameIOReportsWhatTheQueueReports(t *testing.T) {
	a, b := newPipe(t, nil)
	ctx := t.Context()
	require.ErrorIs(t, a.WriteFrame(ctx, count(1515)), ErrFrameSize)
	require.NoError(t, a.WriteFrame(ctx, ethernet(1500, 0x8100, 1, 0x0800)), "a tag does not count to the MTU")

	_, err := b.ReadFrame(ctx, make([]byte, 1517))
	require.ErrorIs(t, err, io.ErrShortBuffer)
	require.NoError(t, a.WriteFrame(ctx, nil), "nothing is a frame too")
	n, err := b.ReadFrame(ctx, nil)
	require.NoError(t, err, "the frame that was too long is gone")
	require.Zero(t, n)

	a.SetLink(false)
	require.ErrorIs(t, a.WriteFrame(ctx, count(60)), ErrLinkDown)
}

func TestReadFrameInsertsTheTag(t *testing.T) {
	a, b := newPipe(t, nil)
	f := frameOf(ethernet(46, 0x0800))
	f.VLAN = Tag{TPID: TPID8021Q, TCI: 100}
	_, err := a.Tx(0).Send([]*Frame{f})
	require.NoError(t, err)
	buf := make([]byte, 100)
	n, err := b.ReadFrame(t.Context(), buf)
	require.NoError(t, err)
	require.Equal(t, ethernet(46, 0x8100, 100, 0x0800), buf[:n])
}

// Who writes frame by frame may receive batches, and the other way round.
func TestFrameIOLeavesTheOtherDirectionAlone(t *testing.T) {
	a, b := newPipe(t, nil)
	rings := 0
	rx := a.Rx(0).(Notifier)
	rx.SetBell(func() { rings++ })
	require.False(t, rx.Arm())
	require.NoError(t, a.WriteFrame(t.Context(), count(60)))
	require.NoError(t, b.WriteFrame(t.Context(), count(60)))
	require.Equal(t, 1, rings)
}

func TestFrameIOByManyAtOnce(t *testing.T) {
	const writers, readers, each = 4, 4, 500
	a, b := newPipe(t, &PipeConfig{Depth: 8})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var writing, reading sync.WaitGroup
	for w := range writers {
		writing.Go(func() {
			for i := range each {
				frame := ethernet(46, uint16(w), uint16(i))
				if err := a.WriteFrame(ctx, frame); err != nil {
					t.Errorf("WriteFrame: %v", err)
					return
				}
				clear(frame) // it was copied
			}
		})
	}
	var mu sync.Mutex
	seen := map[[2]uint16]int{}
	for range readers {
		reading.Go(func() {
			buf := make([]byte, 100)
			for {
				n, err := b.ReadFrame(ctx, buf)
				if err == ErrClosed {
					return
				}
				key := [2]uint16{binary.BigEndian.Uint16(buf[12:]), binary.BigEndian.Uint16(buf[14:])}
				if err != nil || !bytes.Equal(buf[:n], ethernet(46, key[:]...)) {
					t.Errorf("ReadFrame: %x, %v", buf[:n], err)
					return
				}
				mu.Lock()
				seen[key]++
				mu.Unlock()
			}
		})
	}
	writing.Wait()
	require.NoError(t, a.Close())
	reading.Wait()
	require.Len(t, seen, writers*each)
	for key, n := range seen {
		require.Equal(t, 1, n, "frame %v", key)
	}
}
