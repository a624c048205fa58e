package portstest

import (
	"fmt"
	"testing"
)

// Run runs the conformance suite. It calls make for a fresh rig at the start of each subtest; make
// may skip the test when the machine lacks what the backend needs.
func Run(t *testing.T, make func(t *testing.T) Rig) {
	for _, p := range parts {
		t.Run(p.name, func(t *testing.T) { p.run(t, make) })
	}
}

func build(t *testing.T, make func(t *testing.T) Rig) *Rig {
	rig := make(t)
	if rig.Depth == 0 {
		rig.Depth = 64
	}
	t.Cleanup(func() { rig.Backend.Close() })
	return &rig
}

// part is one subtest.
type part struct {
	name string
	run  func(t *testing.T, make func(t *testing.T) Rig)
}

// on makes a part of a test that needs one rig.
func on(test func(*testing.T, *Rig)) func(*testing.T, func(*testing.T) Rig) {
	return func(t *testing.T, make func(t *testing.T) Rig) {
		rig := build(t, make)
		defer func() {
			if r := recover(); r != nil {
				why, ok := r.(notApplicable)
				if !ok {
					panic(r)
				}
				t.Logf("does not apply: %s", string(why))
			}
		}()
		test(t, rig)
	}
}

// notApplicable says why a subtest has nothing to test, which is no reason for go test to report a
// test as skipped: nothing is missing.
type notApplicable string

// moot ends a subtest that does not apply to the backend or the rig.
func moot(format string, args ...any) { panic(notApplicable(fmt.Sprintf(format, args...))) }

var parts = []part{
	{"Info", on(info)},

	{"SendKeepsOrder", on(sendKeepsOrder)},
	{"RecvKeepsOrder", on(recvKeepsOrder)},
	{"SendLosesNothingBelowDepth", on(sendLosesNothingBelowDepth)},
	{"RecvLosesNothingBelowDepth", on(recvLosesNothingBelowDepth)},
	{"SendComesUpShortWhenFull", on(sendComesUpShortWhenFull)},
	{"SendNeverBlocks", on(sendNeverBlocks)},
	{"RecvHeedsRoom", on(recvHeedsRoom)},
	{"AllQueues", on(allQueues)},
	{"OneBatchForAllQueues", on(oneBatch)},
	{"AllAtOnce", on(allAtOnce)},

	{"SendKeepsNoFrame", on(sendKeepsNoFrame)},
	{"SendChangesNoFrame", on(sendChangesNoFrame)},
	{"RecvLendsUntilRelease", on(recvLendsUntilRelease)},

	{"SendSegments", on(sendSegments)},
	{"SendTags", on(sendTags)},
	{"RecvTags", on(recvTags)},
	{"SendMTU", on(sendMTU)},
	{"RecvMTU", on(recvMTU)},
	{"SendRunts", on(sendRunts)},
	{"RecvRunts", on(recvRunts)},

	{"SendOffload", on(sendOffload)},
	{"SendRefusesOffload", on(sendRefusesOffload)},
	{"RecvOffload", on(recvOffload)},

	{"Bell", on(bell)},
	{"BellOfTx", on(bellOfTx)},
	{"Descriptor", on(descriptor)},
	{"NoWakeUpIsLost", on(noWakeUpIsLost)},

	{"LinkEvents", on(linkEvents)},
	{"LinkDown", on(linkDown)},

	{"CloseUnused", on(closeUnused)},
	{"CloseTwice", on(closeTwice)},
	{"CloseWakesReceiver", on(closeWakesReceiver)},
	{"CloseUnderTraffic", on(closeUnderTraffic)},
	{"CloseFreesEverything", closeFreesEverything},

	{"SendAllocatesNothing", on(sendAllocatesNothing)},
	{"RecvAllocatesNothing", on(recvAllocatesNothing)},
}
