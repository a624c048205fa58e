package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// console is what a guest has printed, line by line.
type console struct {
	mu    sync.Mutex
	lines []line
	more  chan struct{} // closed when there are more lines, or will be none
	over  bool
}

type line struct {
	at   time.Time
	text string
}

func newConsole() *console { return &console{more: make(chan struct{})} }

// read takes all that r has.
func (c *console) read(r io.Reader) {
	for s := bufio.NewScanner(r); s.Scan(); {
		c.mu.Lock()
		c.lines = append(c.lines, line{time.Now(), strings.TrimRight(s.Text(), "\r")})
		close(c.more)
		c.more = make(chan struct{})
		c.mu.Unlock()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
	close(c.more)
}

// from returns the lines from the n-th on.
func (c *console) from(n int) []line {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lines[n:len(c.lines):len(c.lines)]
}

// length returns the number of lines.
func (c *console) length() int { return len(c.from(0)) }

// await returns the lines from the n-th on up to one that begins with prefix.
func (c *console) await(ctx context.Context, n int, prefix string) ([]line, error) {
	for i := n; ; {
		c.mu.Lock()
		more, over, end := c.more, c.over, len(c.lines)
		c.mu.Unlock()
		for ; i < end; i++ {
			found := c.from(n)[:i-n+1]
			switch said := found[i-n].text; {
			case strings.HasPrefix(said, prefix):
				return found, nil
			case strings.Contains(said, "Kernel panic"):
				over = true
			}
		}
		if over {
			return nil, fmt.Errorf("it ended, and the last it said was:\n%s", c.tail())
		}
		select {
		case <-more:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w, and the last it said was:\n%s", context.Cause(ctx), c.tail())
		}
	}
}

// tail returns the last lines.
func (c *console) tail() string {
	all := c.from(0)
	var s strings.Builder
	for _, l := range all[max(0, len(all)-20):] {
		fmt.Fprintf(&s, "\t%s\n", l.text)
	}
	return s.String()
}
