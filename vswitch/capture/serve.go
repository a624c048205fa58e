package capture

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hvswitch/hvswitch/vswitch/extension"
)

// Source is what Serve captures from: a host with its switches.
type Source interface {
	// Observe makes c an extension of every switch, present and future, in front of all others. stop
	// removes it.
	Observe(name string, c extension.Capture) (stop func(), err error)

	// Ports returns the connected ports of all switches, in any order. The list is the caller's.
	Ports() []extension.Port
}

// ServeConfig is for Serve. A nil *ServeConfig and zero fields mean the defaults.
type ServeConfig struct {
	MaxReaders    int           // at once; default 16
	Buffer        int           // as in Config, for each reader
	FlushInterval time.Duration // as in Config
}

const (
	maxRequest     = 64 << 10         // bytes
	requestTimeout = 10 * time.Second // for a request to arrive, and for an answer that is not a capture to leave
	lastTimeout    = time.Second      // for what is in the buffer when a capture ends
)

// past is a deadline that ends a Read at once.
var past = time.Unix(1, 0)

// Serve gives each reader that connects to l a capture of its own, until ctx is done or l fails; it closes
// l. It returns nil when ctx is done, after the last reader has been served.
//
// A reader sends one line of text and gets one answer, after which the server closes the connection:
//
//	list
//	capture
//	capture snaplen=256 port=web vlan=10
//
// The answer to list is the ports of src, by switch and name, as a JSON array; Kind is "vNIC", "management
// vNIC" or "uplink", Speed in bit/s. The answer to capture is a pcapng stream; snaplen, which comes first,
// is Config.SnapLen and the rest a Filter. It ends, with the statistics, when the reader closes the sending
// half of the connection or all of it. An answer that begins with "error: " is a line that says what is
// wrong. List and Open are such readers, and so is
//
//	(echo capture port=web; cat) | nc -U /run/switch/capture | wireshark -k -i -
//
// Whoever can connect sees all traffic: l is to be a Unix socket with narrow permissions, or a listener
// that authenticates, such as one of crypto/tls.
func Serve(ctx context.Context, l net.Listener, src Source, cfg *ServeConfig) error {
	s := server{src: src, maxReaders: 16, names: map[int]bool{}}
	if cfg != nil {
		s.config = Config{Buffer: cfg.Buffer, FlushInterval: cfg.FlushInterval}
		if cfg.MaxReaders < 0 {
			return fmt.Errorf("capture: %d readers at once is negative", cfg.MaxReaders)
		}
		if cfg.MaxReaders > 0 {
			s.maxReaders = cfg.MaxReaders
		}
	}
	if _, err := newCapture(io.Discard, &s.config); err != nil {
		return err
	}
	var readers sync.WaitGroup
	defer readers.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer l.Close()
	defer context.AfterFunc(ctx, func() { l.Close() })()
	for {
		conn, err := l.Accept()
		if ctx.Err() != nil {
			if err == nil {
				conn.Close()
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("capture: %w", err)
		}
		readers.Go(func() { s.serve(ctx, conn) })
	}
}

type server struct {
	src        Source
	config     Config
	maxReaders int

	mu    sync.Mutex
	names map[int]bool // numbers of the readers
}

func (s *server) serve(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(requestTimeout))
	defer context.AfterFunc(ctx, func() { conn.SetReadDeadline(past) })()

	line, err := bufio.NewReader(io.LimitReader(conn, maxRequest)).ReadString('\n')
	switch {
	case err == nil:
		err = s.answer(ctx, conn, strings.TrimRight(line, "\r\n"))
	case len(line) == maxRequest:
		err = errors.New("the request is too long")
	default:
		return
	}
	if err != nil {
		fmt.Fprintf(conn, "error: %s\n", strings.ReplaceAll(err.Error(), "\n", " "))
	}
}

func (s *server) answer(ctx context.Context, conn net.Conn, request string) error {
	verb, rest, _ := strings.Cut(request, " ")
	switch verb {
	case "list":
		list := s.src.Ports()
		slices.SortFunc(list, func(a, b extension.Port) int {
			return cmp.Or(strings.Compare(a.Switch, b.Switch), strings.Compare(a.Name, b.Name))
		})
		return json.NewEncoder(conn).Encode(describe(list))
	case "capture":
		cfg, err := s.parse(rest)
		if err != nil {
			return err
		}
		return s.capture(ctx, conn, cfg)
	}
	return fmt.Errorf("request %q is neither list nor capture", verb)
}

// parse reads what follows the word capture.
func (s *server) parse(text string) (*Config, error) {
	cfg := s.config
	if rest, ok := strings.CutPrefix(text, "snaplen="); ok {
		number, rest, _ := strings.Cut(rest, " ")
		n, err := strconv.Atoi(number)
		if err != nil || n < 1 {
			return nil, fmt.Errorf("snap length %q is no positive number", number)
		}
		cfg.SnapLen, text = n, rest
	}
	var err error
	cfg.Filter, err = ParseFilter(text)
	return &cfg, err
}

// enter returns a number that no other reader has, and what gives it back.
func (s *server) enter() (n int, leave func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.names) >= s.maxReaders {
		return 0, nil, fmt.Errorf("there are %d readers already", s.maxReaders)
	}
	for n = 1; s.names[n]; n++ {
	}
	s.names[n] = true
	return n, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.names, n)
	}, nil
}

func (s *server) capture(ctx context.Context, conn net.Conn, cfg *Config) error {
	n, leave, err := s.enter()
	if err != nil {
		return err
	}
	defer leave()
	c, err := newCapture(conn, cfg)
	if err != nil {
		return err
	}
	stop, err := s.src.Observe(fmt.Sprintf("capture reader %d", n), c)
	if err != nil {
		return err
	}
	conn.SetDeadline(time.Time{})
	if ctx.Err() != nil {
		conn.SetReadDeadline(past)
	}
	go c.run() // only now, so that what went wrong could be said in place of a stream

	gone := make(chan struct{})
	go func() {
		defer close(gone)
		io.Copy(io.Discard, conn)
	}()
	select {
	case <-gone:
	case <-c.Done():
	}
	stop()
	conn.SetWriteDeadline(time.Now().Add(lastTimeout))
	c.Close()
	conn.Close()
	<-gone
	return nil
}
