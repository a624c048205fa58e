package vswitch

// A stage does one thing to every frame of a burst that is still alive. It drops a frame by setting
// meta.drop.
type stage func(*burst)

// compile makes the ingress pipeline of a port from its settings: the stages that it needs, in the
// order in which a frame passes them, and no others.
func compile(p *portView) []stage {
	stages := []stage{classify}
	if p.trunk {
		stages = append(stages, admitTrunk)
	} else {
		stages = append(stages, admitUntagged)
	}
	if p.mac != 0 && !p.spoofing {
		// The address of the vNIC is configured, so there is nothing to learn.
		stages = append(stages, onlySource(p.mac))
	} else {
		stages = append(stages, validSource, learn)
	}
	return append(stages, forward)
}
