package main

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/qos"
	"github.com/hvswitch/hvswitch/team"
	"github.com/hvswitch/hvswitch/vswitch"
)

const (
	switchName = "converged"
	uplinkName = "team"
	nicCount   = 2
	nicRate    = 50_000_000 // bit/s
)

// lab is a host with its cables.
type lab struct {
	host    *vswitch.Host
	planned []class
	cables  []*ports.PipeEnd // the ends of the NICs
	wires   []*wire
	senders []*sender
	stop    context.CancelFunc
	running sync.WaitGroup
}

func newLab(planned []class) (*lab, error) {
	host, err := vswitch.NewHost(nil)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	l := &lab{host: host, planned: planned, stop: cancel}
	if err := l.build(ctx); err != nil {
		return nil, errors.Join(err, l.close())
	}
	return l, nil
}

func (l *lab) build(ctx context.Context) error {
	uplink, err := l.joinNICs()
	if err != nil {
		return err
	}
	if _, err := l.host.AddNIC(uplinkName, uplink); err != nil {
		return errors.Join(err, uplink.Close())
	}
	// What is divided is what the team says that it carries.
	divided := &vswitch.QoSConfig{Mode: qos.Weight, QueueFrames: 512}
	for _, c := range l.planned {
		if c.name == theVMs {
			divided.Default.MinWeight = c.weight
		}
	}
	cfg := &vswitch.SwitchConfig{Type: vswitch.External, Uplink: uplinkName, QoS: divided}
	if _, err := l.host.NewSwitch(switchName, cfg); err != nil {
		return err
	}
	for _, w := range l.wires {
		l.running.Go(func() { w.drain(ctx) })
	}
	for i := range l.planned {
		c := &l.planned[i]
		for _, v := range c.vnics {
			s, err := l.plug(c, v)
			if err != nil {
				return err
			}
			l.senders = append(l.senders, s)
			l.running.Go(func() { s.run(ctx) })
		}
	}
	return nil
}

// joinNICs makes the NICs and joins them to a team.
func (l *lab) joinNICs() (*team.Team, error) {
	var members []team.Member
	for i := range nicCount {
		name := fmt.Sprint("eth", i)
		nic, far, err := ports.Pipe(&ports.PipeConfig{Name: name, MAC: ports.MAC{2, 0, 0, 0, 0, byte(i + 1)}, Speed: nicRate})
		if err != nil {
			return nil, err
		}
		l.cables = append(l.cables, nic)
		l.wires = append(l.wires, &wire{name: name, end: far, bytes: map[uint16]uint64{}})
		members = append(members, team.Member{Backend: nic})
	}
	return team.New(members, &team.Config{Name: uplinkName})
}

// plug adds a vNIC and returns who sends from it.
func (l *lab) plug(c *class, v vnic) (*sender, error) {
	inside, outside, err := ports.Pipe(&ports.PipeConfig{Name: v.name})
	if err != nil {
		return nil, err
	}
	n, err := l.host.NewVNIC(v.name, outside, c.config(v))
	if err != nil {
		return nil, errors.Join(err, outside.Close())
	}
	return newSender(c.name, inside, n.MAC()), nil
}

func (l *lab) close() error {
	l.stop()
	l.running.Wait()
	return l.host.Close()
}
