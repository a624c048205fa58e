package vswitch

import (
	"github.com/hvswitch/hvswitch/vlan"
	"github.com/hvswitch/hvswitch/vswitch/acl"
)

// A stage does one thing to every frame of a burst that is still alive. It drops a frame by setting
// meta.drop.
type stage func(*burst)

// compile makes the ingress pipeline of a port from its settings: the stages that it needs, in the
// order in which a frame passes them, and no others.
func compile(p *portView) []stage {
	stages := []stage{classify}
	if p.vlan.Kind() == vlan.KindUntagged {
		stages = append(stages, admitUntagged(&p.vlan, p.keepPriority))
	} else {
		stages = append(stages, admit(&p.vlan, p.keepPriority))
	}
	// The address of a vNIC in its only VLAN is configured, so there is nothing to learn.
	configured := p.mac != 0 && !p.spoofing
	if configured {
		stages = append(stages, onlySource(p.mac))
	} else {
		stages = append(stages, validSource)
	}
	if p.guard != nil {
		stages = append(stages, guards(p.guard))
	}
	if p.addresses != nil {
		stages = append(stages, limitAddresses(p.addresses))
	}
	if p.acl != nil && p.acl.Judges(acl.Out) {
		stages = append(stages, sentByVM(p.acl, p.connections))
	}
	if !configured || p.trunk() {
		stages = append(stages, learn)
	}
	stages = append(stages, forward)
	if p.storm != nil {
		stages = append(stages, limitStorm(p.storm))
	}
	return stages
}
