package vswitch

import (
	"github.com/hvswitch/hvswitch/vlan"
	"github.com/hvswitch/hvswitch/vswitch/acl"
)

// A stage does one thing to every frame of a burst that is still alive. It drops a frame by setting
// meta.drop.
type stage struct {
	name string // as Explain calls it
	run  func(*burst)
}

// compile makes the ingress pipeline of a port from its settings: the stages that it needs, in the
// order in which a frame passes them, and no others.
func compile(p *portView) []stage {
	stages := []stage{{"frame", classify}}
	if p.program != nil {
		stages = append(stages, stage{"extensions", enter(p.program)})
	}
	if p.vlan.Kind() == vlan.KindUntagged {
		stages = append(stages, stage{"VLAN", admitUntagged(&p.vlan, p.keepPriority)})
	} else {
		stages = append(stages, stage{"VLAN", admit(&p.vlan, p.keepPriority)})
	}
	// The address of a vNIC in its only VLAN is configured, so there is nothing to learn.
	configured := p.mac != 0 && !p.spoofing && p.team == nil
	switch {
	case p.injected:
	case configured:
		stages = append(stages, stage{"source", onlySource(p.mac)})
	case p.team != nil && !p.spoofing:
		stages = append(stages, stage{"source", teamSource(p.team)})
	default:
		stages = append(stages, stage{"source", validSource})
	}
	if p.guard != nil {
		stages = append(stages, stage{"guards", guards(p.guard)})
	}
	if p.addresses != nil {
		stages = append(stages, stage{"address limit", limitAddresses(p.addresses)})
	}
	if p.acl != nil && p.acl.Judges(acl.Out) {
		stages = append(stages, stage{"ACL", sentByVM(p.acl, p.connections)})
	}
	if p.tenant != nil {
		if p.storm != nil {
			stages = append(stages, stage{"storm limit", limitGroups(p.storm)})
		}
		return append(stages, stage{"overlay", intoOverlay})
	}
	if p.overlay != nil {
		stages = append(stages, stage{"overlay", outOfOverlay(p.overlay)})
	}
	if !p.injected && (!configured || p.trunk()) {
		stages = append(stages, stage{"learning", learn})
	}
	if p.program != nil && p.program.Decides() {
		stages = append(stages, stage{"forwarding", forwardBy(p.program)})
	} else {
		stages = append(stages, stage{"forwarding", forward})
	}
	if p.storm != nil {
		stages = append(stages, stage{"storm limit", limitStorm(p.storm)})
	}
	return stages
}
