package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
)

// programs are those of the machine that vmm runs or gives to its guests, with their Debian packages.
var programs = []struct{ name, pkg string }{
	{"qemu-system-x86_64", "qemu-system-x86"},
	{"iperf3", "iperf3"},
	{"ethtool", "ethtool"},
	{"ldd", "libc-bin"},
	{"dpkg-deb", "dpkg"},
	{"apt-get", "apt"},
}

// missing says what the machine lacks, all of it in one message.
func missing(netdev string) error {
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		return errors.New("this needs Linux on amd64")
	}
	var lacks, packages []string
	if netdev == "tap" && os.Geteuid() != 0 {
		lacks = append(lacks, "the right to make TAPs: run it as root, or choose another -netdev")
	}
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
