//go:build !linux

package vswitch

import (
	"errors"
	"time"
)

// fdSet exists on Linux only.
type fdSet struct{}

func newFDSet(*worker) (*fdSet, error) {
	return nil, errors.New("waiting for file descriptors: " + errors.ErrUnsupported.Error())
}

func (*fdSet) add(*rxQueue) error          { return errors.ErrUnsupported }
func (*fdSet) remove(*rxQueue)             {}
func (*fdSet) arm(*rxQueue, time.Duration) {}
func (*fdSet) poll() bool                  { return false }
func (*fdSet) wait(time.Duration)          {}
func (*fdSet) lingering() bool             { return false }
func (*fdSet) wake()                       {}
func (*fdSet) close()                      {}
