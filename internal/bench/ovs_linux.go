package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// Where Debian and its kin put the builds of Open vSwitch without and with DPDK.
const (
	ovsPlain = "/usr/lib/openvswitch-switch/ovs-vswitchd"
	ovsDPDK  = "/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk"
)

// ovs puts Open vSwitch's datapath in user space between the namespaces, with segmentation offload
// where its build has that. All of it runs in a directory of its own.
func (k labKind) ovs(s *station) error {
	daemon, tso := "", false
	for _, d := range []string{ovsDPDK, ovsPlain, "ovs-vswitchd"} {
		if p, err := exec.LookPath(d); err == nil {
			daemon, tso = p, d == ovsDPDK
			break
		}
	}
	if daemon == "" {
		return skip("Open vSwitch is not installed")
	}
	dir, err := os.MkdirTemp("/run", "ovs")
	if err != nil {
		return err
	}
	s.later(func() { os.RemoveAll(dir) })
	var settings []string
	if tso {
		settings = append(settings, "userspace-tso-enable=true")
	}
	vsctl, err := startOVS(dir, daemon, settings, func(name string, args ...string) error {
		cpu := anyCPU
		if name == daemon {
			cpu = s.cpu
		}
		p, err := background(dir, name, within(s.s, name, args...), cpu)
		if err == nil {
			s.later(p.kill)
			s.pids = append(s.pids, p.cmd.Process.Pid)
		}
		return err
	})
	if err != nil {
		return err
	}
	if err := vsctl("add-br", "br0", "--", "set", "bridge", "br0", "datapath_type=netdev"); err != nil {
		return err
	}
	if k.tap {
		if err := vsctl("add-port", "br0", devA, "--", "set", "interface", devA, "type=internal",
			"--", "add-port", "br0", devB, "--", "set", "interface", devB, "type=internal"); err != nil {
			return err
		}
		if err := s.handOver(); err != nil {
			return err
		}
	} else {
		if err := s.veths(); err != nil {
			return err
		}
		if err := vsctl("add-port", "br0", devA, "--", "add-port", "br0", devB); err != nil {
			return err
		}
	}
	if !tso {
		// Without the offload it drops what is longer than the MTU.
		for _, ns := range []string{s.a, s.b} {
			if _, err := output(within(ns, "ethtool", "-K", "e0", "tx", "off", "tso", "off", "gso", "off", "gro", "off")); err != nil {
				return err
			}
		}
	}
	return nil
}

// startOVS runs database and daemon of Open vSwitch, with settings of its other_config, and returns
// ovs-vsctl.
func startOVS(dir, daemon string, settings []string, start func(name string, args ...string) error) (vsctl func(args ...string) error, err error) {
	db, sock := filepath.Join(dir, "conf.db"), "unix:"+filepath.Join(dir, "db.sock")
	if _, err := run("ovsdb-tool", "create", db, "/usr/share/openvswitch/vswitch.ovsschema"); err != nil {
		return nil, err
	}
	if err := start("ovsdb-server", db, "--remote=p"+sock, "--unixctl="+dir+"/db.ctl", "--no-chdir"); err != nil {
		return nil, err
	}
	vsctl = func(args ...string) error {
		_, err := run("ovs-vsctl", append([]string{"--timeout=20", "--db=" + sock}, args...)...)
		return err
	}
	for i := 0; ; i++ {
		if err := vsctl("--no-wait", "init"); err == nil {
			break
		} else if i == 20 {
			return nil, err
		}
		time.Sleep(50 * time.Millisecond)
	}
	for _, s := range settings {
		if err := vsctl("--no-wait", "set", "Open_vSwitch", ".", "other_config:"+s); err != nil {
			return nil, err
		}
	}
	return vsctl, start(daemon, sock, "--unixctl="+dir+"/v.ctl")
}

// background starts a daemon of Open vSwitch.
func background(dir, name string, c *exec.Cmd, cpu int) (*process, error) {
	c.Env = append(os.Environ(), "OVS_RUNDIR="+dir, "OVS_LOGDIR="+dir, "OVS_DBDIR="+dir)
	log, err := os.Create(filepath.Join(dir, filepath.Base(name)+".log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	return launchTo(c, cpu, log)
}
