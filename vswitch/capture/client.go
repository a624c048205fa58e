package capture

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vswitch/extension"
)

// portInfo is an extension.Port in the answer to list.
type portInfo struct {
	Switch, Name string
	ID           string `json:",omitempty"`
	Kind         string
	MAC          ports.MAC `json:",omitzero"`
	MTU          int
	Speed        uint64 `json:",omitempty"`
	Index        int
}

func describe(list []extension.Port) []portInfo {
	infos := []portInfo{}
	for _, p := range list {
		infos = append(infos, portInfo{p.Switch, p.Name, p.ID, p.Kind.String(), p.MAC, p.MTU, p.Speed, p.Index})
	}
	return infos
}

func (i *portInfo) port() (extension.Port, error) {
	for k := extension.VNIC; k <= extension.Uplink; k++ {
		if k.String() == i.Kind {
			return extension.Port{
				Switch: i.Switch, Name: i.Name, ID: i.ID,
				Kind: k, MAC: i.MAC, MTU: i.MTU, Speed: i.Speed, Index: i.Index,
			}, nil
		}
	}
	return extension.Port{}, fmt.Errorf("port %q of switch %q: kind %q is not known", i.Name, i.Switch, i.Kind)
}

// List asks a server, see Serve, for its ports. It closes conn. To bound the time it takes, set a deadline.
func List(conn net.Conn) ([]extension.Port, error) {
	defer conn.Close()
	in, err := request(conn, "list")
	if err != nil {
		return nil, err
	}
	var infos []portInfo
	if err := json.NewDecoder(in).Decode(&infos); err != nil {
		return nil, fmt.Errorf("capture: %w", err)
	}
	var list []extension.Port
	for i := range infos {
		p, err := infos[i].port()
		if err != nil {
			return nil, fmt.Errorf("capture: %w", err)
		}
		list = append(list, p)
	}
	return list, nil
}

// Stream is a capture that a server sends: pcapng. Read and Stop may be called at once.
type Stream struct {
	conn net.Conn
	in   *bufio.Reader
}

// Open asks a server, see Serve, for a capture; snapLen 0 stands for the default. The Stream has conn,
// which is closed on an error.
func Open(conn net.Conn, f *Filter, snapLen int) (*Stream, error) {
	text, err := requestText(f, snapLen)
	if err == nil {
		var in *bufio.Reader
		if in, err = request(conn, text); err == nil {
			return &Stream{conn, in}, nil
		}
	}
	conn.Close()
	return nil, err
}

func requestText(f *Filter, snapLen int) (string, error) {
	text := "capture"
	if snapLen != 0 {
		text += fmt.Sprintf(" snaplen=%d", snapLen)
	}
	if f != nil {
		t, err := f.MarshalText()
		if err != nil {
			return "", fmt.Errorf("capture: filter: %w", err)
		}
		text += " " + string(t)
	}
	if len(text) >= maxRequest {
		return "", fmt.Errorf("capture: request of %d bytes is too long", len(text))
	}
	return text, nil
}

// request sends a line and returns the answer.
func request(conn net.Conn, line string) (*bufio.Reader, error) {
	if _, err := io.WriteString(conn, line+"\n"); err != nil {
		return nil, fmt.Errorf("capture: %w", err)
	}
	return answer(conn)
}

// answer returns what the server sends, unless it is an error.
func answer(conn net.Conn) (*bufio.Reader, error) {
	in := bufio.NewReaderSize(conn, outputSize)
	first, err := in.Peek(1)
	if err != nil {
		return nil, fmt.Errorf("capture: no answer: %w", err)
	}
	if first[0] == 'e' {
		text, _ := io.ReadAll(io.LimitReader(in, maxRequest))
		return nil, errors.New("capture: " + strings.TrimSpace(strings.TrimPrefix(string(text), "error: ")))
	}
	return in, nil
}

// Read reads the stream.
func (s *Stream) Read(b []byte) (int, error) { return s.in.Read(b) }

// Stop asks the server to end the capture. What it has recorded so far and the statistics are still to be
// read; io.EOF comes after them. A connection whose sending half cannot be closed alone is closed as a
// whole.
func (s *Stream) Stop() error {
	if c, ok := s.conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return s.conn.Close()
}

// Close closes the connection.
func (s *Stream) Close() error { return s.conn.Close() }
