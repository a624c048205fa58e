package portstest

import (
	"reflect"
	"testing"

	"github.com/hvswitch/hvswitch/ports"
)

func info(t *testing.T, r *Rig) {
	i := r.Backend.Info()
	if i.MTU < 68 || i.MTU > 65535 { // RFC 791: every IPv4 host forwards 68 bytes
		t.Errorf("MTU %d is out of 68–65535", i.MTU)
	}
	if i.RxQueues < 1 || i.TxQueues < 1 {
		t.Fatalf("%d receive and %d transmit queues; at least 1 of each is needed", i.RxQueues, i.TxQueues)
	}
	if i.MAC.IsGroup() {
		t.Errorf("MAC %v is a group address", i.MAC)
	}
	if i.Offloads&^ports.OffloadChecksum != 0 && i.Offloads&ports.OffloadChecksum == 0 {
		t.Errorf("offloads %#x need OffloadChecksum", i.Offloads)
	}
	if i.Offloads&ports.OffloadECN != 0 && i.Offloads&(ports.OffloadTCP4|ports.OffloadTCP6) == 0 {
		t.Errorf("offloads %#x: ECN needs OffloadTCP4 or OffloadTCP6", i.Offloads)
	}
	for n := range i.RxQueues {
		q := r.Backend.Rx(n)
		if !alike(q, r.Backend.Rx(n)) {
			t.Errorf("Rx(%d) is not the same queue in each call", n)
		}
		_, notifier := q.(ports.Notifier)
		_, pollable := q.(ports.Pollable)
		if notifier == pollable {
			t.Errorf("Rx(%d): Notifier %t, Pollable %t; exactly one is needed", n, notifier, pollable)
		}
	}
	for n := range i.TxQueues {
		if !alike(r.Backend.Tx(n), r.Backend.Tx(n)) {
			t.Errorf("Tx(%d) is not the same queue in each call", n)
		}
	}
	if again := r.Backend.Info(); again != i {
		t.Errorf("Info changed from %+v to %+v", i, again)
	}
}

// alike compares what can be compared.
func alike(a, b any) bool { return !reflect.TypeOf(a).Comparable() || a == b }
