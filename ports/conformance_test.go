package ports_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/ports/portstest"
)

func TestPipeConforms(t *testing.T) {
	dropped := portstest.Lacks{portstest.Backpressure: "a pipe with Drop takes everything"}
	for name, c := range map[string]struct {
		cfg   *ports.PipeConfig
		lacks portstest.Lacks
	}{
		"default":   {cfg: nil},
		"offloads":  {cfg: &ports.PipeConfig{Offloads: ports.OffloadAll}},
		"checksum":  {cfg: &ports.PipeConfig{Offloads: ports.OffloadChecksum}},
		"queues":    {cfg: &ports.PipeConfig{Queues: 4, Depth: 32}},
		"shallow":   {cfg: &ports.PipeConfig{Depth: 1}},
		"odd depth": {cfg: &ports.PipeConfig{Depth: 5}},
		"deep":      {cfg: &ports.PipeConfig{Depth: 600}},
		"least MTU": {cfg: &ports.PipeConfig{MTU: 68, Depth: 16}},
		"most MTU":  {cfg: &ports.PipeConfig{MTU: 65535, Depth: 8, Offloads: ports.OffloadAll}},
		"drop":      {cfg: &ports.PipeConfig{Drop: true, Depth: 16}, lacks: dropped},
	} {
		t.Run(name, func(t *testing.T) {
			portstest.Run(t, func(t *testing.T) portstest.Rig {
				a, b, err := ports.Pipe(c.cfg)
				require.NoError(t, err)
				depth, offloads := 256, ports.Offloads(0)
				if c.cfg != nil {
					offloads = c.cfg.Offloads
					if c.cfg.Depth != 0 {
						depth = c.cfg.Depth
					}
				}
				return portstest.Rig{
					Backend: a,
					Peer:    portstest.Far(b),
					Depth:   depth,
					SetLink: a.SetLink,
					Puts:    offloads,
					Takes:   offloads,
					Lacks:   c.lacks,
				}
			})
		})
	}
}
