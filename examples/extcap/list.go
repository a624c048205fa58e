package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode"

	"github.com/hvswitch/hvswitch/vswitch/capture"
	"github.com/hvswitch/hvswitch/vswitch/extension"
)

// patience is how long a VMM may take to answer. Wireshark waits for the list when it starts.
const patience = 2 * time.Second

// vmm is a VMM by its name, and the socket on which it serves captures.
type vmm struct{ name, socket string }

func (v vmm) connect() (net.Conn, error) {
	conn, err := net.DialTimeout("unix", v.socket, patience)
	if err != nil {
		return nil, err
	}
	return conn, conn.SetDeadline(time.Now().Add(patience))
}

// list returns an interface for each port, and one for all ports, of each VMM.
func (o *options) list() (string, error) {
	sockets, err := filepath.Glob(o.sockets)
	if err != nil {
		return "", err
	}
	before, after, _ := strings.Cut(o.sockets, "*")
	texts := make([]string, len(sockets))
	var asked sync.WaitGroup
	for i, s := range sockets {
		asked.Go(func() { texts[i] = vmm{s[len(before) : len(s)-len(after)], s}.interfaces() })
	}
	asked.Wait()
	return version + strings.Join(texts, ""), nil
}

// interfaces returns the lines of a VMM: none if it has gone.
func (v vmm) interfaces() string {
	conn, err := v.connect()
	var ports []extension.Port
	if err == nil {
		ports, err = capture.List(conn)
	}
	switch {
	case errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, fs.ErrNotExist):
		return ""
	case err != nil:
		fmt.Fprintf(os.Stderr, "hvswitch: VMM %q: %v\n", v.name, err)
		return ""
	}
	lines := sentence(portValue(v.name), v.name+": all ports")
	for _, p := range ports {
		lines += sentence(portValue(v.name, p.Switch, p.Name), fmt.Sprintf("%s: %s, %v of switch %s", v.name, p.Name, p.Kind, p.Switch))
	}
	return lines
}

// sentence is a line of the list. It cannot quote, so what would end its display text is replaced.
func sentence(value, display string) string {
	return fmt.Sprintf("interface {value=%s}{display=%s}\n", value, strings.Map(func(r rune) rune {
		if r == '{' || r == '}' || !unicode.IsPrint(r) {
			return '_'
		}
		return r
	}, display))
}

// scheme tells the interfaces of this program from those of others.
const scheme = "hvswitch:"

// portValue returns what Wireshark calls an interface: VMM, or VMM/switch/port. Names may have any
// characters, which are escaped as in a URL.
func portValue(names ...string) string {
	for i, n := range names {
		names[i] = url.PathEscape(n)
	}
	return scheme + strings.Join(names, "/")
}

// parsePort reads what portValue returned.
func parsePort(value string) (names []string, err error) {
	rest, ok := strings.CutPrefix(value, scheme)
	names = strings.Split(rest, "/")
	if !ok || len(names) != 1 && len(names) != 3 {
		return nil, fmt.Errorf("interface %q is none of this program", value)
	}
	for i, n := range names {
		if names[i], err = url.PathUnescape(n); err != nil {
			return nil, fmt.Errorf("interface %q: %w", value, err)
		}
	}
	return names, nil
}
