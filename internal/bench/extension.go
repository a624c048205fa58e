package main

import (
	"io"
	"net/netip"

	"github.com/hvswitch/hvswitch/vswitch/capture"
	"github.com/hvswitch/hvswitch/vswitch/extension"
	"github.com/hvswitch/hvswitch/vswitch/ipfix"
	"github.com/hvswitch/hvswitch/vswitch/sflow"
)

// Extension rows: what extensions and a mirror add to the cost of a frame.

// onlyPasses is a filter that lets everything pass.
type onlyPasses struct{}

func (*onlyPasses) Filter(*extension.Batch) {}

// allows is a firewall that allows every connection.
type allows struct{}

func (*allows) Authorize(*extension.Connection) bool { return true }

func extensionBenches() []*bench {
	one := func(name string, make func() (any, error)) *bench {
		return policyRow("extension/"+name, func(p *policySetup) error {
			x, err := make()
			p.extensions = []extension.Binding{{Name: name, Extension: x}}
			return err
		})
	}
	captured := func(f capture.Filter) func() (any, error) {
		return func() (any, error) { return capture.New(io.Discard, &capture.Config{Filter: f}) }
	}
	return []*bench{
		policyRow("extension/none", func(*policySetup) error { return nil }),
		one("filter", func() (any, error) { return new(onlyPasses), nil }),
		one("firewall", func() (any, error) { return new(allows), nil }),
		one("capture/sender", captured(capture.Filter{Ports: []string{portName(0)}})),
		one("capture/both", captured(capture.Filter{})),
		one("capture/nothing", captured(capture.Filter{Prefixes: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/32")}})),
		one("sflow/1:1000", func() (any, error) {
			return sflow.New(&sflow.Config{Collectors: []io.Writer{io.Discard}, Agent: senderIP, Rate: 1000})
		}),
		one("sflow/1:1", func() (any, error) {
			return sflow.New(&sflow.Config{Collectors: []io.Writer{io.Discard}, Agent: senderIP, Rate: 1})
		}),
		one("ipfix", func() (any, error) { return ipfix.New(&ipfix.Config{Collectors: []io.Writer{io.Discard}}) }),
		policyRow("extension/mirror", func(p *policySetup) error { p.mirror = true; return nil }),
	}
}
