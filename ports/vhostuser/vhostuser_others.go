//go:build !linux

package vhostuser

import (
	"errors"
	"fmt"
	"runtime"

	"github.com/hvswitch/hvswitch/ports"
)

var errUnsupported = fmt.Errorf("not available on %s/%s: %w", runtime.GOOS, runtime.GOARCH, errors.ErrUnsupported)

// device never exists.
type device struct{ info ports.Info }

func listen(string, *Config) (*device, error) { return nil, errUnsupported }
func dial(string, *Config) (*device, error)   { return nil, errUnsupported }

func (d *device) rx(int) ports.RxQueue       { panic(errUnsupported) }
func (d *device) tx(int) ports.TxQueue       { panic(errUnsupported) }
func (d *device) linkUp() bool               { panic(errUnsupported) }
func (d *device) watchLink(func(ports.Link)) { panic(errUnsupported) }
func (d *device) setLink(bool)               { panic(errUnsupported) }
func (d *device) stats() Stats               { panic(errUnsupported) }
func (d *device) lastError() error           { panic(errUnsupported) }
func (d *device) close() error               { return errUnsupported }
