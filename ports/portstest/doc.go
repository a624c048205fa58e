// Package portstest is the conformance suite of package ports: Run tells whether a backend keeps the
// contract that a switch relies on. It is meant for the backends of this module and for those of a
// VMM alike.
//
//	func TestBackend(t *testing.T) {
//		portstest.Run(t, func(t *testing.T) portstest.Rig {
//			a, b, err := ports.Pipe(nil)
//			require.NoError(t, err)
//			return portstest.Rig{Backend: a, Peer: portstest.Far(b), Depth: 256}
//		})
//	}
//
// Run it with -race. Each part is a subtest, so one of them runs alone with -run.
package portstest
