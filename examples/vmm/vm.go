package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/hvswitch/hvswitch/ports"
)

// machine says what a VM is.
type machine struct {
	name  string
	addr  netip.Prefix
	mac   ports.MAC
	accel string
	image *image
	dir   string     // for its files
	args  []string   // of QEMU, beside those that every machine gets
	files []*os.File // that args count on as descriptors 3 and up
}

// vm is a running QEMU. Its guest runs what it is told by the serial console.
type vm struct {
	machine
	*console
	started time.Time
	booted  time.Duration // how long it took until the guest was ready
	typing  io.Writer
	process *exec.Cmd
	done    chan struct{}
}

// memory is that of a guest.
const memory = "192M"

// start runs QEMU.
func (m machine) start() (*vm, error) {
	initrd, err := m.initrd()
	if err != nil {
		return nil, err
	}
	args := []string{
		"-nodefaults", "-no-user-config", "-display", "none",
		"-accel", m.accelerator(), "-cpu", "max", "-m", memory,
		// By vhost-user the switch works in the memory of the guest, which has to be a file that both map.
		"-object", "memory-backend-memfd,id=memory,share=on,size=" + memory, "-machine", "q35,memory-backend=memory",
		"-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console",
		"-kernel", m.image.kernel, "-initrd", initrd,
		"-append", "console=ttyS0 quiet nokaslr mitigations=off no_timer_check vmm.address=" + m.addr.String(),
	}
	v := &vm{machine: m, console: newConsole(), done: make(chan struct{})}
	v.process = exec.Command("qemu-system-x86_64", append(args, m.args...)...)
	v.process.ExtraFiles = m.files
	dieWithUs(v.process)
	if v.typing, err = v.process.StdinPipe(); err != nil {
		return nil, err
	}
	said, err := v.process.StdoutPipe()
	if err != nil {
		return nil, err
	}
	v.process.Stderr = v.process.Stdout
	v.started = time.Now()
	if err := v.process.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(v.done)
		v.read(said)
		_ = v.process.Wait()
	}()
	return v, nil
}

// accelerator returns what QEMU gets to run the guest.
func (m machine) accelerator() string {
	if m.accel == "tcg" {
		// Each write to memory of which there is translated code takes long, and when a guest reboots it writes a
		// kernel over a kernel. A small cache is emptied before, and large enough for what a guest does here.
		return "tcg,tb-size=20" // MiB
	}
	return m.accel
}

// initrd makes the first root file system of the guest: the image, and behind it the programs that are of this folder.
func (m machine) initrd() (string, error) {
	content, err := os.ReadFile(m.image.root)
	if err != nil {
		return "", err
	}
	rtt, err := os.ReadFile(m.image.rtt)
	if err != nil {
		return "", err
	}
	b := bytes.NewBuffer(content)
	more := newCPIO(b)
	more.add("init", initScript)
	more.add("bin/rtt", rtt)
	name := filepath.Join(m.dir, m.name+".initrd")
	return name, errors.Join(more.close(), os.WriteFile(name, b.Bytes(), 0o600))
}

// patience is what a guest is given to boot; emulated on a busy machine it takes its time.
const patience = 90 * time.Second

// ready waits until the guest has booted, where the n-th line is the first that counts.
func (v *vm) ready(ctx context.Context, n int) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	said, err := v.await(ctx, n, "vmm: ready")
	if err != nil {
		return fmt.Errorf("%s did not boot: %w", v.name, err)
	}
	v.booted = said[len(said)-1].at.Sub(v.started)
	return nil
}

// run has the guest run a line of shell and returns what was printed meanwhile.
func (v *vm) run(ctx context.Context, format string, args ...any) ([]line, error) {
	command, n := fmt.Sprintf(format, args...), v.length()
	if _, err := fmt.Fprintln(v.typing, command); err != nil {
		return nil, fmt.Errorf("%s: %s: %w", v.name, command, err)
	}
	const exit = "vmm: exit "
	said, err := v.await(ctx, n, exit)
	if err != nil {
		return nil, fmt.Errorf("%s: %s: %w", v.name, command, err)
	}
	if last := said[len(said)-1].text; last != exit+"0" {
		return nil, fmt.Errorf("%s: %s: %s:\n%s", v.name, command, strings.TrimPrefix(last, "vmm: "), v.tail())
	}
	return said, nil
}

// stop ends QEMU as a power failure would.
func (v *vm) stop() {
	_ = v.process.Process.Kill()
	<-v.done
}
