package main

import (
	"github.com/hvswitch/hvswitch/examples/internal/needs"
)

// programs are those of the machine that livenet runs, with their Debian packages.
var programs = []needs.Program{
	{Name: "ip", Package: "iproute2"},
	{Name: "ping", Package: "iputils-ping"},
	{Name: "iperf3", Package: "iperf3"},
}

// missing says what the machine lacks, all of it in one message.
func missing() error {
	var lacks []string
	if err := mayMakeNetworks(); err != nil {
		lacks = append(lacks, err.Error())
	}
	return needs.Missing(programs, lacks...)
}
