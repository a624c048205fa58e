package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// ovs puts Open vSwitch's datapath in user space between the namespaces, with segmentation offload
// where its build has that. All of it runs in a directory of its own.
func (k labKind) ovs(s *station) error {
	const plain, dpdk = "/usr/lib/openvswitch-switch/ovs-vswitchd", "/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk"
	daemon, tso := "", false
	for _, d := range []string{dpdk, plain, "ovs-vswitchd"} {
		if p, err := exec.LookPath(d); err == nil {
			daemon, tso = p, d == dpdk
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
	db, sock := filepath.Join(dir, "conf.db"), "unix:"+filepath.Join(dir, "db.sock")
	if _, err := run("ovsdb-tool", "create", db, "/usr/share/openvswitch/vswitch.ovsschema"); err != nil {
		return err
	}
	if err := s.background(dir, anyCPU, "ovsdb-server", db, "--remote=p"+sock, "--unixctl="+dir+"/db.ctl", "--no-chdir"); err != nil {
		return err
	}
	vsctl := func(args ...string) error {
		_, err := run("ovs-vsctl", append([]string{"--timeout=10", "--db=" + sock}, args...)...)
		return err
	}
	for i := 0; ; i++ {
		if err = vsctl("--no-wait", "init"); err == nil {
			break
		}
		if i == 20 {
			return err
		}
		time.Sleep(50 * time.Millisecond)
	}
	if tso {
		if err := vsctl("--no-wait", "set", "Open_vSwitch", ".", "other_config:userspace-tso-enable=true"); err != nil {
			return err
		}
	}
	if err := s.background(dir, s.cpu, daemon, sock, "--unixctl="+dir+"/v.ctl"); err != nil {
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

// background starts a daemon of Open vSwitch.
func (s *station) background(dir string, cpu int, name string, args ...string) error {
	c := within(s.s, name, args...)
	c.Env = append(os.Environ(), "OVS_RUNDIR="+dir, "OVS_LOGDIR="+dir, "OVS_DBDIR="+dir)
	log, err := os.Create(filepath.Join(dir, filepath.Base(name)+".log"))
	if err != nil {
		return err
	}
	defer log.Close()
	p, err := launchTo(c, cpu, log)
	if err != nil {
		return err
	}
	s.later(p.kill)
	s.pids = append(s.pids, p.cmd.Process.Pid)
	return nil
}
