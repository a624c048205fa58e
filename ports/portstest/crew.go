package portstest

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"
)

// crew is goroutines that work together; when one fails, or it takes too long, all stop.
type crew struct {
	stop  chan struct{}
	once  sync.Once
	names []string
	tasks []func() error
}

func newCrew() *crew { return &crew{stop: make(chan struct{})} }

func (c *crew) add(name string, task func() error) {
	c.names = append(c.names, name)
	c.tasks = append(c.tasks, task)
}

func (c *crew) cancel() { c.once.Do(func() { close(c.stop) }) }

func (c *crew) stopped() bool {
	select {
	case <-c.stop:
		return true
	default:
		return false
	}
}

// work runs all tasks and waits for them.
func (c *crew) work(t *testing.T) {
	t.Helper()
	late := time.AfterFunc(2*patience, c.cancel)
	defer late.Stop()
	var wg sync.WaitGroup
	errs := make([]error, len(c.tasks))
	for i, task := range c.tasks {
		wg.Go(func() {
			if errs[i] = task(); errs[i] != nil {
				errs[i] = fmt.Errorf("%s: %w", c.names[i], errs[i])
				c.cancel()
			}
		})
	}
	done := make(chan struct{})
	go func() {
		wg.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(3 * patience): // they were told to stop long ago
		stacks := make([]byte, 64<<10)
		t.Fatalf("something hangs\n%s", stacks[:runtime.Stack(stacks, true)])
	}
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}
