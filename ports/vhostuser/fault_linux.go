package vhostuser

import (
	"errors"
	"runtime/debug"

	"github.com/hvswitch/hvswitch/internal/memfault"
)

// Memory that is shared with another process can vanish: the file is truncated, or there is no huge
// page left for it. To touch it is a fault then, which debug.SetPanicOnFault makes a panic.
var (
	errFault  = errors.New("memory of the guest is not there")
	errSource = errors.New("memory of the frame is not there")
)

// guarded calls f, which touches memory of the guest. An error has stopped the ring.
func (v *ring) guarded(f func()) (err error) {
	defer v.rescue(debug.SetPanicOnFault(true), &err)
	f()
	return nil
}

// rescue ends a guarded section, in which was is what SetPanicOnFault returned. It is to be deferred. If
// there was a fault it sets err: in memory of the ring's own guest, which stops the ring, to errFault,
// else to errSource.
func (v *ring) rescue(was bool, err *error) {
	debug.SetPanicOnFault(was)
	r := recover()
	if r == nil {
		return
	}
	a, ok := memfault.Of(r)
	if !ok {
		panic(r)
	}
	if v.mem.holds(a) || v.log.holds(a) || v.inflight.holds(a) {
		v.violate(errFault)
		*err = errFault
		return
	}
	*err = errSource
}
