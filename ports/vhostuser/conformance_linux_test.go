package vhostuser

import (
	"testing"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/ports/portstest"
)

// shapes are the guests that there are: what they negotiate and how they lay out their buffers.
var shapes = []struct {
	name string
	cfg  Config
	vm   vmConfig
}{
	{"Split", Config{}, vmConfig{features: allFeatures}},
	{"SplitFlags", Config{}, vmConfig{features: allFeatures &^ featEventIdx}},
	{"SplitChains", Config{}, vmConfig{features: allFeatures, size: 1024, layout: layout{cuts: []int{12, 100, 3}}}},
	{"SplitIndirect", Config{}, vmConfig{features: allFeatures, layout: layout{cuts: []int{5, 7, 300}, indirect: true}}},
	{"SplitBigBuffers", Config{}, vmConfig{features: allFeatures &^ featMergeable, layout: layout{rxLen: 12 + ports.MaxFrame + 4}}},
	{"SplitSmallBuffers", Config{}, vmConfig{features: allFeatures, size: 2048, layout: layout{rxLen: 256}}},
	{"SplitPlain", Config{}, vmConfig{features: featVersion1 | featProtocol, size: 2048}},
	{"SplitLegacy", Config{}, vmConfig{features: 0, size: 2048}},
	{"SplitQueues", Config{Queues: 3}, vmConfig{features: allFeatures | featMQ, queues: 3}},
	{"SplitNoOffload", Config{Disable: ports.OffloadAll, MTU: 9000}, vmConfig{features: featMergeable | featVersion1 | featProtocol, layout: layout{rxLen: 12 + 18 + 9000}}},
	{"SplitLongest", Config{MTU: 65535}, vmConfig{features: allFeatures, size: 2048, layout: layout{rxLen: 4096}}},
	{"Packed", Config{}, vmConfig{features: allFeatures | featPacked}},
	{"PackedFlags", Config{}, vmConfig{features: (allFeatures | featPacked) &^ featEventIdx}},
	{"PackedChains", Config{}, vmConfig{features: allFeatures | featPacked, size: 1000, layout: layout{cuts: []int{12, 100, 3}}}},
	{"PackedIndirect", Config{}, vmConfig{features: allFeatures | featPacked, layout: layout{cuts: []int{5, 7, 300}, indirect: true}}},
	{"PackedOddSize", Config{}, vmConfig{features: allFeatures | featPacked, size: 301}},
	{"PackedQueues", Config{Queues: 2}, vmConfig{features: allFeatures | featPacked | featMQ, queues: 2}},
}

func TestConformance(t *testing.T) {
	for _, s := range shapes {
		t.Run(s.name, func(t *testing.T) {
			portstest.Run(t, func(t *testing.T) portstest.Rig {
				p, g := plug(t, &s.cfg, s.vm)
				r := portstest.Rig{Backend: p, Peer: g, Depth: 64, SetLink: p.SetLink}
				host, guest := offloadsOf(s.vm.features)
				r.Puts = host
				r.Takes = guest
				return r
			})
		})
	}
}
