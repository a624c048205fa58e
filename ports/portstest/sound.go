package portstest

import (
	"fmt"

	"github.com/hvswitch/hvswitch/ports"
)

// sound checks what holds for every frame that a backend lends.
func sound(f *ports.Frame) error {
	switch head, n := len(f.Head()), f.Len(); {
	case n > ports.MaxFrame:
		return fmt.Errorf("received frame of %d bytes is longer than ports.MaxFrame", n)
	case head < min(n, ports.HeadLen):
		return fmt.Errorf("received frame of %d bytes has only %d of them in its head, %d are needed",
			n, head, min(n, ports.HeadLen))
	case f.VLAN == ports.Tag{TCI: f.VLAN.TCI} && f.VLAN.TCI != 0:
		return fmt.Errorf("received frame has a tag %#04x without TPID", f.VLAN.TCI)
	}
	return nil
}
