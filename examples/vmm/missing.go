package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"github.com/hvswitch/hvswitch/examples/internal/needs"
)

// programs are those of the machine that vmm runs or gives to its guests, with their Debian packages.
var programs = []needs.Program{
	{Name: "qemu-system-x86_64", Package: "qemu-system-x86"},
	{Name: "iperf3", Package: "iperf3"},
	{Name: "ethtool", Package: "ethtool"},
	{Name: "ldd", Package: "libc-bin"},
	{Name: "dpkg-deb", Package: "dpkg"},
	{Name: "apt-get", Package: "apt"},
	{Name: "go", Package: "golang-go"},
}

// missing says what the machine lacks, all of it in one message.
func missing(netdev, accel string) error {
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		return errors.New("this needs Linux on amd64")
	}
	var lacks []string
	if netdev == "tap" && os.Geteuid() != 0 {
		lacks = append(lacks, "the right to make TAPs: run it as root, or choose another -netdev")
	}
	if accel == "kvm" {
		f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
		if err != nil {
			lacks = append(lacks, fmt.Sprintf("KVM (%v): be in the group kvm, or leave out -accel kvm", err))
		} else {
			_ = f.Close()
		}
	}
	return needs.Missing(programs, lacks...)
}
