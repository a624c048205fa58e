package main

import (
	"fmt"
	"os"
	"time"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/ports/afpacket"
	"github.com/hvswitch/hvswitch/ports/tap"
	"github.com/hvswitch/hvswitch/ports/vhostuser"
	"github.com/hvswitch/hvswitch/vswitch"
)

// runTool is the program in one of its other roles, a process of its own as it would be anywhere
// else. It writes "ready", or its numbers.
func runTool(name string, args []string) {
	tools := map[string]struct {
		args int
		run  func(args []string) error
	}{
		"switch-tap":    {2, func(a []string) error { return switchBetween(a, openTAP) }},
		"switch-packet": {2, func(a []string) error { return switchBetween(a, openPacket) }},
		"switch-vhost":  {2, switchVhost},
		"relay-tap":     {2, relayTAP},
		"relay-packet":  {2, relayPacket},
		"send":          {3, send},
		"udp-echo":      {1, udpEcho},
		"udp-ping":      {2, udpPing},
		"tcp-echo":      {1, tcpEcho},
		"tcp-ping":      {2, tcpPing},
	}
	t, ok := tools[name]
	if !ok || len(args) != t.args {
		fmt.Fprintln(os.Stderr, "no such tool:", name, args)
		os.Exit(2)
	}
	if err := t.run(args); err != nil {
		fmt.Fprintln(os.Stderr, name+":", err)
		os.Exit(1)
	}
}

func openTAP(name string, mac ports.MAC) (ports.Backend, error) {
	return tap.Open(&tap.Config{Name: name, MAC: mac})
}

func openPacket(name string, _ ports.MAC) (ports.Backend, error) {
	return afpacket.Open(name, nil)
}

// switchBetween is ours, set up as a program would that has read no manual.
func switchBetween(devices []string, open func(string, ports.MAC) (ports.Backend, error)) error {
	h, err := vswitch.NewHost(nil)
	if err != nil {
		return err
	}
	if _, err := h.NewSwitch(switchName, nil); err != nil {
		return err
	}
	for i, mac := range []string{macA, macB} {
		m, err := ports.ParseMAC(mac)
		if err != nil {
			return err
		}
		b, err := open(devices[i], m)
		if err != nil {
			return err
		}
		if _, err := h.NewVNIC(portName(i), b, &vswitch.VNICConfig{Switch: switchName, MAC: m}); err != nil {
			return err
		}
	}
	return serve()
}

// switchVhost is ours between two machines, each behind a socket, which it polls without pause.
func switchVhost(sockets []string) error {
	h, err := vswitch.NewHost(&vswitch.HostConfig{Workers: 1})
	if err != nil {
		return err
	}
	if _, err := h.NewSwitch(switchName, nil); err != nil {
		return err
	}
	for i, path := range sockets {
		b, err := vhostuser.Listen(path, &vhostuser.Config{BusyPoll: time.Second})
		if err != nil {
			return err
		}
		cfg := &vswitch.VNICConfig{Switch: switchName, AllowSpoofing: true, MaxAddresses: 1 << 16}
		if _, err := h.NewVNIC(portName(i), b, cfg); err != nil {
			return err
		}
	}
	return serve()
}

// serve keeps a daemon's main goroutine until it is killed.
func serve() error {
	fmt.Println("ready")
	for {
		time.Sleep(time.Hour)
	}
}
