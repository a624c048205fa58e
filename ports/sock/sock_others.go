//go:build !linux

package sock

import (
	"errors"
	"fmt"
	"runtime"
	"syscall"
)

var errUnsupported = fmt.Errorf("not available on %s: %w", runtime.GOOS, errors.ErrUnsupported)

func listenStream(string, *Config, *link) (device, error)      { return nil, errUnsupported }
func dialStream(string, *Config, *link) (device, error)        { return nil, errUnsupported }
func openDgram(string, string, *Config, *link) (device, error) { return nil, errUnsupported }
func fromConn(syscall.Conn, *Config, *link) (device, error)    { return nil, errUnsupported }
