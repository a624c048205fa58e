package vswitch

import "github.com/hvswitch/hvswitch/vlan"

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
	switch {
	case p.mac == 0 || p.spoofing:
		stages = append(stages, validSource, learn)
	case p.trunk():
		stages = append(stages, onlySource(p.mac), learn)
	default:
		// Its address in its only VLAN is configured, so there is nothing to learn.
		stages = append(stages, onlySource(p.mac))
	}
	return append(stages, forward)
}
