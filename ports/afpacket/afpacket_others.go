//go:build !linux

package afpacket

import (
	"errors"

	"github.com/hvswitch/hvswitch/ports"
)

// device is what there is of an Interface where there are no packet sockets. As Open fails, its
// methods are not called on an open one.
type device struct{}

func (*device) open(name string, _ Config) error {
	return &Error{Interface: name, Op: "open", Err: errors.ErrUnsupported}
}

func (*device) info() ports.Info           { return ports.Info{} }
func (*device) rxQueue(int) ports.RxQueue  { return nil }
func (*device) txQueue(int) ports.TxQueue  { return nil }
func (*device) link() ports.Link           { return ports.Link{} }
func (*device) watchLink(func(ports.Link)) {}
func (*device) stats() Stats               { return Stats{} }
func (*device) close() error               { return nil }
