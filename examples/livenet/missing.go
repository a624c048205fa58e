package main

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
)

// programs are those of the machine that livenet runs, with their Debian packages.
var programs = []struct{ name, pkg string }{
	{"ip", "iproute2"},
	{"ping", "iputils-ping"},
	{"iperf3", "iperf3"},
}

// missing says what the machine lacks, all of it in one message.
func missing() error {
	var lacks []string
	if err := mayMakeNetworks(); err != nil {
		lacks = append(lacks, err.Error())
	}
	var packages []string
	for _, p := range programs {
		if _, err := exec.LookPath(p.name); err != nil {
			packages = append(packages, p.pkg)
		}
	}
	if len(packages) > 0 {
		lacks = append(lacks, fmt.Sprintf("the Debian packages %s (apt-get install %s)",
			strings.Join(packages, ", "), strings.Join(packages, " ")))
	}
	if len(lacks) == 0 {
		return nil
	}
	return errors.New("this machine lacks " + strings.Join(lacks, "; and "))
}
