package capture

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/vlan"
	"github.com/hvswitch/hvswitch/vswitch/extension"
)

// host is a Source whose switch has the ports web and db.
type host struct {
	t  *testing.T
	mu sync.Mutex

	observers map[string]*scene
	refuse    error
	changed   chan struct{} // gets a value for each observer that comes or goes
}

func newHost(t *testing.T) *host {
	return &host{t: t, observers: map[string]*scene{}, changed: make(chan struct{}, 100)}
}

func (h *host) Observe(name string, c extension.Capture) (stop func(), err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.refuse != nil {
		return nil, h.refuse
	}
	if h.observers[name] != nil {
		return nil, fmt.Errorf("extension %q is there already", name)
	}
	s := &scene{t: h.t}
	s.attach(c.(*Capture), "web", "db")
	h.observers[name] = s
	h.changed <- struct{}{}
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.observers, name)
		h.changed <- struct{}{}
	}, nil
}

func (h *host) Ports() []extension.Port {
	s := &scene{t: h.t, states: map[string]any{}, ports: map[string]*extension.Port{}}
	c, err := newCapture(io.Discard, nil)
	require.NoError(h.t, err)
	s.attach(c, "web", "db")
	s.ports["db"].Kind = extension.Uplink
	return []extension.Port{*s.ports["web"], *s.ports["db"]}
}

// pass sends a frame from web to db.
func (h *host) pass(number int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.observers {
		f := numbered(100, number)
		s.pass(in, "web", func(*extension.Batch) { s.pass(out, "db", nil, f) }, f)
	}
}

// serve serves the host and returns where, and what ends it.
func (h *host) serve(cfg *ServeConfig) (address string, end func()) {
	address = filepath.Join(h.t.TempDir(), "capture")
	l, err := net.Listen("unix", address)
	require.NoError(h.t, err)
	return address, h.serveOn(l, cfg)
}

func (h *host) serveOn(l net.Listener, cfg *ServeConfig) (end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- Serve(ctx, l, h, cfg) }()
	end = sync.OnceFunc(func() {
		cancel()
		require.NoError(h.t, <-done)
		require.Empty(h.t, h.observers)
	})
	h.t.Cleanup(end)
	return end
}

func (h *host) dial(address string) net.Conn {
	conn, err := net.Dial("unix", address)
	require.NoError(h.t, err)
	h.t.Cleanup(func() { conn.Close() })
	require.NoError(h.t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	return conn
}

func TestReaderGetsItsCapture(t *testing.T) {
	h := newHost(t)
	address, _ := h.serve(nil)
	all, err := Open(h.dial(address), nil, 0)
	require.NoError(t, err)
	some, err := Open(h.dial(address), &Filter{Ports: []string{"db"}}, 40)
	require.NoError(t, err)
	<-h.changed
	<-h.changed
	h.pass(1)
	h.pass(2)

	require.NoError(t, some.Stop())
	file, err := io.ReadAll(some)
	require.NoError(t, err)
	r := read(t, file)
	require.Equal(t, []string{"prod/db"}, r.ports)
	require.Len(t, r.packets, 2)
	require.Len(t, r.packets[0].data, 40)
	require.Equal(t, [4]uint64{2, 2, 2, 0}, r.counts("prod/db"))
	<-h.changed

	h.pass(3)
	require.NoError(t, all.Stop())
	file, err = io.ReadAll(all)
	require.NoError(t, err)
	require.Len(t, read(t, file).packets, 6)
	require.NoError(t, some.Close())
	require.NoError(t, all.Close())
}

func TestReaderThatGoesAwayEndsItsCapture(t *testing.T) {
	h := newHost(t)
	address, _ := h.serve(&ServeConfig{FlushInterval: time.Millisecond})
	s, err := Open(h.dial(address), nil, 0)
	require.NoError(t, err)
	<-h.changed
	h.pass(1)
	require.NoError(t, s.Close())
	<-h.changed
	require.Empty(t, h.observers)
}

func TestServerThatEndsWritesTheStatistics(t *testing.T) {
	h := newHost(t)
	address, end := h.serve(nil)
	s, err := Open(h.dial(address), nil, 0)
	require.NoError(t, err)
	<-h.changed
	h.pass(1)
	h.dial(address) // one that asks for nothing
	end()
	file, err := io.ReadAll(s)
	require.NoError(t, err)
	r := read(t, file)
	require.Len(t, r.packets, 2)
	require.Equal(t, [4]uint64{1, 1, 1, 0}, r.counts("prod/db"))
	_, err = net.Dial("unix", address)
	require.Error(t, err)
}

func TestReaderThatDoesNotReadHoldsUpNobody(t *testing.T) {
	h := newHost(t)
	address, end := h.serve(&ServeConfig{FlushInterval: time.Millisecond, Buffer: MinBuffer})
	lazy := h.dial(address)
	_, err := io.WriteString(lazy, "capture\n")
	require.NoError(t, err)
	<-h.changed
	lost := func() uint64 {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.observers["capture reader 1"].c.Stats().Lost
	}
	for lost() == 0 {
		h.pass(1)
	}
	start := time.Now()
	end()
	require.Less(t, time.Since(start), 10*time.Second)
}

func TestListOfPorts(t *testing.T) {
	h := newHost(t)
	address, _ := h.serve(nil)
	list, err := List(h.dial(address))
	require.NoError(t, err)
	want := h.Ports()
	slices.Reverse(want) // by name
	require.Equal(t, want, list)
}

func TestRequestsThatAreWrong(t *testing.T) {
	h := newHost(t)
	address, _ := h.serve(nil)
	for request, want := range map[string]string{
		"":                           `request "" is neither list nor capture`,
		"GET / HTTP/1.1\r":           `request "GET" is neither list nor capture`,
		"capture colour=red":         `term "colour": there is no such criterion`,
		"capture snaplen=0":          `snap length "0" is no positive number`,
		"capture snaplen=x port=a":   `snap length "x" is no positive number`,
		strings.Repeat("a", 100<<10): "the request is too long",
		"capture port=a snaplen=1":   `term "snaplen": there is no such criterion`,
	} {
		conn := h.dial(address)
		go io.WriteString(conn, request+"\n") // the server need not read it to its end
		_, err := answer(conn)
		require.ErrorContains(t, err, want)
		conn.Close()
	}
	h.mu.Lock()
	h.refuse = errors.New("the host is closed")
	h.mu.Unlock()
	_, err := Open(h.dial(address), nil, 0)
	require.EqualError(t, err, "capture: the host is closed")
	_, err = Open(h.dial(address), &Filter{VLANs: vlan.Set{}, Directions: []extension.Direction{9}}, 0)
	require.EqualError(t, err, "capture: filter: 9 is no direction")
	_, err = Open(h.dial(address), nil, -1)
	require.EqualError(t, err, `capture: snap length "-1" is no positive number`)
}

func TestReadersAreBounded(t *testing.T) {
	h := newHost(t)
	address, _ := h.serve(&ServeConfig{MaxReaders: 2})
	for range 2 {
		_, err := Open(h.dial(address), nil, 0)
		require.NoError(t, err)
		<-h.changed
	}
	_, err := Open(h.dial(address), nil, 0)
	require.EqualError(t, err, "capture: there are 2 readers already")
	list, err := List(h.dial(address))
	require.NoError(t, err)
	require.Len(t, list, 2)
}

func TestServeOverTCPAndTLS(t *testing.T) {
	cert := selfSigned(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	h := newHost(t)
	h.serveOn(tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{cert}}), nil)
	conn, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{InsecureSkipVerify: true})
	require.NoError(t, err)
	s, err := Open(conn, nil, 0)
	require.NoError(t, err)
	<-h.changed
	h.pass(1)
	require.NoError(t, s.Stop())
	file, err := io.ReadAll(s)
	require.NoError(t, err)
	require.Len(t, read(t, file).packets, 2)
}

func TestServeRefusesWhatIsWrong(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "capture"))
	require.NoError(t, err)
	require.ErrorContains(t, Serve(t.Context(), l, newHost(t), &ServeConfig{Buffer: 1}), "buffer of 1 bytes")
	require.ErrorContains(t, Serve(t.Context(), l, newHost(t), &ServeConfig{MaxReaders: -1}), "negative")
	l.Close()
	require.ErrorIs(t, Serve(t.Context(), l, newHost(t), nil), net.ErrClosed)
}

func TestServerThatSpeaksSomethingElse(t *testing.T) {
	for answer, want := range map[string]string{
		"":                  "capture: no answer: EOF",
		"[{":                "capture: unexpected EOF",
		`[{"Kind":"bond"}]`: `kind "bond" is not known`,
		"error: no\n":       "capture: no",
	} {
		near, far := net.Pipe()
		go func() {
			io.ReadFull(far, make([]byte, len("list\n")))
			io.WriteString(far, answer)
			far.Close()
		}()
		_, err := List(near)
		require.ErrorContains(t, err, want)
	}
}
