//go:build !unix

package arrival

import (
	"errors"
	"fmt"
)

type descriptor struct{}

func newDescriptor(int) (*descriptor, error) {
	return nil, fmt.Errorf("waiting for a file descriptor: %w", errors.ErrUnsupported)
}

func (*descriptor) wait()  {}
func (*descriptor) wake()  {}
func (*descriptor) close() {}
