//go:build !linux

package tap

import (
	"errors"
	"fmt"
	"runtime"

	"github.com/hvswitch/hvswitch/ports"
)

var errUnsupported = fmt.Errorf("not available on %s: %w", runtime.GOOS, errors.ErrUnsupported)

// device never exists.
type device struct{ info ports.Info }

func open(*Config) (*device, error)         { return nil, errUnsupported }
func adopt(*Config, []int) (*device, error) { return nil, fmt.Errorf("tap: %w", errUnsupported) }

func (d *device) rx(int) ports.RxQueue       { panic(errUnsupported) }
func (d *device) tx(int) ports.TxQueue       { panic(errUnsupported) }
func (d *device) up() bool                   { panic(errUnsupported) }
func (d *device) watchLink(func(ports.Link)) { panic(errUnsupported) }
func (d *device) dropped() uint64            { panic(errUnsupported) }
func (d *device) setMAC(ports.MAC) error     { panic(errUnsupported) }
func (d *device) close() error               { return errUnsupported }
