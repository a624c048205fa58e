// Package memfault tells the panic of memory that is not there, such as that of a guest whose VMM has truncated it,
// from others. Faults are panics on goroutines that have called debug.SetPanicOnFault.
package memfault

// Of returns the address of the fault that was recovered from as r. It reports false for any other panic.
func Of(r any) (addr uintptr, ok bool) {
	f, ok := r.(interface{ Addr() uintptr })
	if !ok {
		return 0, false
	}
	return f.Addr(), true
}
