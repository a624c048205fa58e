package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The lab is where rows with devices of the kernel run: namespaces of network, mounts and processes
// of their own, so that nothing of the machine is touched and all is gone with the program.

const (
	toolEnv = "HVSWITCH_BENCH_TOOL"
	labEnv  = "HVSWITCH_BENCH_LAB"
)

// labMissing says why there is no lab; empty when there is one.
var labMissing = "not in the lab"

// enterLab runs the program once more inside the lab when one of the benches needs it. done says
// that it has run.
func enterLab(benches []*bench) (code int, done bool) {
	needed, huge := false, false
	for _, b := range benches {
		needed = needed || b.lab
		huge = huge || b.huge
	}
	if os.Getenv(labEnv) != "" {
		os.Unsetenv(labEnv)
		labMissing = ""
		if err := furnishLab(); err != nil {
			labMissing = err.Error()
		}
		return 0, false
	}
	if !needed {
		return 0, false
	}
	if os.Geteuid() != 0 {
		labMissing = "needs root"
		return 0, false
	}
	if _, err := exec.LookPath("ip"); err != nil {
		labMissing = "needs the program ip (iproute2)"
		return 0, false
	}
	c := exec.Command("/proc/self/exe", os.Args[1:]...)
	c.Env = append(os.Environ(), labEnv+"=1")
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	c.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID,
		Pdeathsig:  syscall.SIGKILL,
	}
	// Whoever ends this program ends the lab, and what is done to the machine itself is undone.
	end := make(chan os.Signal, 1)
	signal.Notify(end, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(end)
	if huge && testpmdMissing() == "" {
		defer reserveHugePages(vhostMemory)()
	}
	if err := c.Start(); err != nil {
		labMissing = "needs the right to make namespaces: " + err.Error()
		return 0, false
	}
	go func() {
		for range end {
			c.Process.Kill()
		}
	}()
	c.Wait()
	if code = c.ProcessState.ExitCode(); code < 0 {
		code = 128 + int(syscall.SIGINT) // as a shell has it
	}
	return code, true
}

func furnishLab() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("private mounts: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	unix.Mount("sysfs", "/sys", "sysfs", 0, "") // only some programs look there
	if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, ""); err != nil {
		return fmt.Errorf("mount /run: %w", err)
	}
	if err := os.MkdirAll("/run/netns", 0o755); err != nil {
		return err
	}
	return errors.Join(noIPv6(""), ip("link set lo up"))
}

// run runs a program, output a command, and returns what it wrote.
func run(name string, args ...string) (string, error) { return output(exec.Command(name, args...)) }

func output(c *exec.Cmd) (string, error) {
	out, err := c.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", strings.Join(c.Args, " "), err, bytes.TrimSpace(out))
	}
	return string(out), nil
}

// ip runs commands of iproute2 until one fails.
func ip(commands ...string) error {
	for _, c := range commands {
		if _, err := run("ip", strings.Fields(c)...); err != nil {
			return err
		}
	}
	return nil
}

// noIPv6 keeps neighbour and router discovery out of the figures. No namespace name means the lab.
func noIPv6(ns string) error {
	const script = "for i in all default; do f=/proc/sys/net/ipv6/conf/$i/disable_ipv6; [ ! -e $f ] || echo 1 >$f; done"
	c := exec.Command("sh", "-c", script)
	if ns != "" {
		c = within(ns, "sh", "-c", script)
	}
	_, err := output(c)
	return err
}

// anyCPU lets a process run where the scheduler likes.
const anyCPU = -1

// process is a program in the background.
type process struct {
	cmd *exec.Cmd
	out *bufio.Reader
}

// within returns a command that runs a program in a namespace.
func within(ns, name string, args ...string) *exec.Cmd {
	return exec.Command("ip", append([]string{"netns", "exec", ns, name}, args...)...)
}

// tool starts this program as one of its tools, in a namespace and on a CPU.
func tool(ns string, cpu int, name string, args ...string) (*process, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := within(ns, exe, args...)
	c.Env = append(os.Environ(), toolEnv+"="+name)
	return launch(c, cpu)
}

func launch(c *exec.Cmd, cpu int) (*process, error) {
	pipe, err := c.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p, err := launchTo(c, cpu, os.Stderr)
	if err == nil {
		p.out = bufio.NewReader(pipe)
	}
	return p, err
}

// launchTo starts a program whose complaints go to a file.
func launchTo(c *exec.Cmd, cpu int, complaints *os.File) (*process, error) {
	c.Stderr = complaints
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if cpu != anyCPU {
		defer pinThread(cpu)() // which the child inherits
	}
	if err := c.Start(); err != nil {
		return nil, err
	}
	return &process{cmd: c}, nil
}

// line returns the next line that the process writes.
func (p *process) line() (string, error) {
	l, err := p.out.ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("%s ended without an answer", filepath.Base(p.cmd.Path))
	}
	return strings.TrimSpace(l), nil
}

func (p *process) kill() {
	p.cmd.Process.Kill()
	p.cmd.Wait()
}

// numbers runs a tool to its end and returns the numbers on the line that it writes.
func numbers(ns string, cpu int, name string, args ...string) ([]float64, error) {
	p, err := tool(ns, cpu, name, args...)
	if err != nil {
		return nil, err
	}
	defer p.kill()
	l, err := p.line()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	var out []float64
	for _, f := range strings.Fields(l) {
		v, err := strconv.ParseFloat(f, 64)
		if err != nil {
			return nil, fmt.Errorf("%s: %s", name, l)
		}
		out = append(out, v)
	}
	return out, nil
}

// cpuTimeOf returns the time that processes have spent on processors, in the kernel too.
func cpuTimeOf(pids []int) time.Duration {
	var sum time.Duration
	for _, pid := range pids {
		for _, t := range threads(pid) {
			sum += t.ran
		}
	}
	return sum
}

// scheduled is how long a thread has run, and how long it has been kept from it by others.
type scheduled struct{ ran, waited time.Duration }

// threads returns those of a process, by the names of their files.
func threads(pid int) map[string]scheduled {
	all := map[string]scheduled{}
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	for _, t := range tasks {
		b, _ := os.ReadFile(t)
		if f := strings.Fields(string(b)); len(f) > 1 {
			ran, _ := strconv.ParseInt(f[0], 10, 64)
			waited, _ := strconv.ParseInt(f[1], 10, 64)
			all[t] = scheduled{time.Duration(ran), time.Duration(waited)}
		}
	}
	return all
}

// station is a switch under test in a namespace of its own, between the interfaces e0 of two others.
type station struct {
	name    string
	cpu     int
	a, b, s string // namespaces; the switch is in s
	pids    []int  // of the switch, where it is a process
	undo    []func()
}

const (
	ipA, ipB   = "10.77.0.1", "10.77.0.2"
	macA, macB = "02:00:00:00:00:0a", "02:00:00:00:00:0b"
	devA, devB = "sa", "sb" // the switch's interfaces to the namespaces
	echoPort   = "9001"
	iperfPort  = "5301"
)

var stations int

func newStation(name string, cpu int) (*station, error) {
	stations++
	n := fmt.Sprintf("n%d", stations)
	s := &station{name: name, cpu: cpu, a: n + "a", b: n + "b", s: n + "s"}
	for _, ns := range []string{s.a, s.b, s.s} {
		if err := ip("netns add " + ns); err != nil {
			return s, err
		}
		s.later(func() { ip("netns del " + ns) })
		if err := errors.Join(noIPv6(ns), ip("-n "+ns+" link set lo up")); err != nil {
			return s, err
		}
	}
	return s, nil
}

func (s *station) later(f func()) { s.undo = append(s.undo, f) }

func (s *station) close() {
	for i := len(s.undo) - 1; i >= 0; i-- {
		s.undo[i]()
	}
}

// veths makes cables from the switch's namespace to both others.
func (s *station) veths() error {
	return errors.Join(ip(
		"-n "+s.s+" link add "+devA+" type veth peer name e0 netns "+s.a, "-n "+s.s+" link set "+devA+" up",
		"-n "+s.s+" link add "+devB+" type veth peer name e0 netns "+s.b, "-n "+s.s+" link set "+devB+" up",
	), s.address())
}

// handOver moves the interfaces, which are the switch's own, into the namespaces.
func (s *station) handOver() error {
	return errors.Join(ip(
		"-n "+s.s+" link set "+devA+" netns "+s.a+" name e0",
		"-n "+s.s+" link set "+devB+" netns "+s.b+" name e0",
	), s.address())
}

func (s *station) address() error {
	return ip(
		"-n "+s.a+" link set e0 address "+macA+" up", "-n "+s.b+" link set e0 address "+macB+" up",
		"-n "+s.a+" addr add "+ipA+"/24 dev e0", "-n "+s.b+" addr add "+ipB+"/24 dev e0",
		"-n "+s.a+" neigh replace "+ipB+" lladdr "+macB+" dev e0", "-n "+s.b+" neigh replace "+ipA+" lladdr "+macA+" dev e0",
	)
}

// daemon starts one of our tools as the switch and waits until it works.
func (s *station) daemon(name string) error {
	p, err := tool(s.s, s.cpu, name, devA, devB)
	if err != nil {
		return err
	}
	s.later(p.kill)
	s.pids = append(s.pids, p.cmd.Process.Pid)
	if l, err := p.line(); err != nil || l != "ready" {
		return fmt.Errorf("%s: %s %v", name, l, err)
	}
	return nil
}

// listen starts the far ends of the measurements and waits until one frame has come back.
func (s *station) listen() error {
	for _, echo := range []string{"udp-echo", "tcp-echo"} {
		p, err := tool(s.b, s.cpu, echo, echoPort)
		if err != nil {
			return err
		}
		s.later(p.kill)
		if _, err := p.line(); err != nil {
			return err
		}
	}
	if path, err := exec.LookPath("iperf3"); err == nil {
		q, err := launch(within(s.b, path, "-s", "-p", iperfPort), anyCPU)
		if err != nil {
			return err
		}
		s.later(q.kill)
		go io.Copy(io.Discard, q.out)
	}
	for range 50 {
		if v, err := numbers(s.a, anyCPU, "udp-ping", ipB+":"+echoPort, "1ms"); err == nil && len(v) == 4 && v[3] > 0 {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return errors.New("nothing gets through")
}

// counter returns a statistic of a namespace's e0, such as rx packets.
func counter(ns, direction, what string) (uint64, error) {
	out, err := run("ip", "-n", ns, "-s", "-j", "link", "show", "e0")
	if err != nil {
		return 0, err
	}
	var links []struct {
		Stats map[string]map[string]uint64 `json:"stats64"`
	}
	if err := json.Unmarshal([]byte(out), &links); err != nil || len(links) != 1 {
		return 0, fmt.Errorf("ip link show e0: %s", out)
	}
	return links[0].Stats[direction][what], nil
}
