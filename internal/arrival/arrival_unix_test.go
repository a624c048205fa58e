//go:build unix

package arrival

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/hvswitch/hvswitch/ports"
)

// deaf is a queue that tells nobody of frames.
type deaf struct{}

func (deaf) Recv(*ports.Batch) error { return nil }
func (deaf) Release()                {}

// file is a queue that is the reading end of a pipe.
type file struct {
	deaf
	fd int
}

func (f file) Descriptor() int { return f.fd }

func TestWait(t *testing.T) {
	_, err := New(deaf{})
	require.ErrorContains(t, err, "neither")

	near, far, err := ports.Pipe(nil)
	require.NoError(t, err)
	var ends [2]int
	require.NoError(t, unix.Pipe(ends[:]))
	defer unix.Close(ends[0])
	defer unix.Close(ends[1])
	frame := new(ports.Frame)
	frame.SetHead(make([]byte, 60), 0, 60)
	for name, c := range map[string]struct {
		queue  ports.RxQueue
		arrive func()
		empty  func()
	}{
		"bell": {near.Rx(0), func() {
			n, err := far.Tx(0).Send([]*ports.Frame{frame})
			require.True(t, n == 1 && err == nil)
		}, func() {
			require.NoError(t, near.Rx(0).Recv(ports.NewBatch(9)))
			near.Rx(0).Release()
		}},
		"descriptor": {file{fd: ends[0]}, func() { _, _ = unix.Write(ends[1], []byte{1}) },
			func() { _, _ = unix.Read(ends[0], make([]byte, 9)) }},
	} {
		t.Run(name, func(t *testing.T) {
			w, err := New(c.queue)
			require.NoError(t, err)
			defer w.Close()
			woken := make(chan struct{})
			returns := func() {
				t.Helper()
				go func() { w.Wait(); woken <- struct{}{} }()
				select {
				case <-woken:
				case <-time.After(10 * time.Second):
					require.Fail(t, "still waiting")
				}
			}
			c.arrive()
			returns() // as something is there
			c.empty()
			w.Wake()
			returns() // as it has been woken before
			go func() { w.Wait(); woken <- struct{}{} }()
			select {
			case <-woken:
				require.Fail(t, "woken by nothing")
			case <-time.After(50 * time.Millisecond):
			}
			c.arrive()
			<-woken
		})
	}
}
