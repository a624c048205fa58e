package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"time"
)

// testpmd is DPDK's program of that name with its console.
type testpmd struct {
	*process
	in io.WriteCloser

	mu    sync.Mutex
	said  []byte
	ended chan struct{} // closed when it says no more
}

// testpmdMissing says why it cannot be run; empty when it can.
func testpmdMissing() string {
	for _, p := range [][2]string{{"dpdk-testpmd", "dpdk"}, {"stdbuf", "coreutils"}} {
		if _, err := exec.LookPath(p[0]); err != nil {
			return fmt.Sprintf("needs the program %s (%s)", p[0], p[1])
		}
	}
	return ""
}

const (
	testpmdPrompt  = "\ntestpmd> "
	testpmdStart   = 40 * time.Second // on a busy machine
	testpmdAnswer  = 20 * time.Second
	testpmdMemory  = 256 // MiB
	testpmdBuffers = 32768
)

// startTestpmd starts one whose console and only worker have the i-th of cpus, and waits for its
// prompt.
func startTestpmd(dir, name string, cpu int, huge bool, devices []string, args ...string) (*testpmd, error) {
	// Without stdbuf the answers would stay in its buffer.
	all := []string{"-oL", "dpdk-testpmd", "--no-pci", "--file-prefix=" + filepath.Base(dir) + name,
		"--lcores", fmt.Sprintf("(0,1)@%d", cpus[cpu]), "-m", strconv.Itoa(testpmdMemory)}
	all = append(all, dpdkMemory(huge)...)
	for _, d := range devices {
		all = append(all, "--vdev", d)
	}
	all = append(append(all, "--", "-i", "--forward-mode=io", "--no-lsc-interrupt"), args...)
	c := exec.Command("stdbuf", all...)
	in, err := c.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := c.StdoutPipe()
	if err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(dir, name+".log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p, err := launchTo(c, anyCPU, log)
	if err != nil {
		return nil, err
	}
	t := &testpmd{process: p, in: in, ended: make(chan struct{})}
	go t.listen(out)
	if _, err := t.answer(0, testpmdStart); err != nil {
		t.kill()
		b, _ := os.ReadFile(log.Name())
		return nil, fmt.Errorf("%w: %s", err, lastLine(b))
	}
	return t, nil
}

// dpdkMemory returns the options for memory that leaves nothing behind and that others can map.
func dpdkMemory(huge bool) []string {
	if huge {
		return []string{"--in-memory", "--single-file-segments"}
	}
	return []string{"--no-huge", "--no-shconf"}
}

func lastLine(b []byte) []byte {
	b = bytes.TrimSpace(b)
	return b[bytes.LastIndexByte(b, '\n')+1:]
}

func (t *testpmd) listen(out io.Reader) {
	defer close(t.ended)
	b := make([]byte, 4096)
	for {
		n, err := out.Read(b)
		t.mu.Lock()
		t.said = append(t.said, b[:n]...)
		t.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// answer returns what it has said from a place on, as soon as it prompts again.
func (t *testpmd) answer(from int, patience time.Duration) ([]byte, error) {
	for end := time.Now().Add(patience); ; time.Sleep(2 * time.Millisecond) {
		over := false
		select {
		case <-t.ended:
			over = true
		default:
		}
		t.mu.Lock()
		said := t.said[from:]
		t.mu.Unlock()
		switch {
		case bytes.Contains(said, []byte(testpmdPrompt)):
			return said, nil
		case over:
			return nil, errors.New("testpmd ended")
		case time.Now().After(end):
			return nil, fmt.Errorf("testpmd does not answer within %v", patience)
		}
	}
}

// ask gives it a command and returns the answer.
func (t *testpmd) ask(command string) ([]byte, error) {
	t.mu.Lock()
	from := len(t.said)
	t.mu.Unlock()
	if _, err := io.WriteString(t.in, command+"\n"); err != nil {
		return nil, err
	}
	a, err := t.answer(from, testpmdAnswer)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", command, err)
	}
	return a, nil
}

var receivedRate = regexp.MustCompile(`Rx-pps:\s+(\d+)`)

// rate returns how many frames a second one of its ports has received since it was asked last.
func (t *testpmd) rate(port int) (float64, error) {
	a, err := t.ask(fmt.Sprintf("show port stats %d", port))
	if err != nil {
		return 0, err
	}
	m := receivedRate.FindSubmatch(a)
	if m == nil {
		return 0, fmt.Errorf("testpmd: no statistics of port %d", port)
	}
	return strconv.ParseFloat(string(m[1]), 64)
}

// writePcap writes frames to a file as testpmd reads them.
func writePcap(path string, frames [][]byte) error {
	// Magic number, version 2.4, time zone, accuracy, longest frame and Ethernet; see
	// draft-ietf-opsawg-pcap.
	b := binary.LittleEndian.AppendUint32(nil, 0xa1b2c3d4)
	b = binary.LittleEndian.AppendUint16(b, 2)
	b = binary.LittleEndian.AppendUint16(b, 4)
	for _, v := range []uint32{0, 0, 65535, 1} {
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	for _, f := range frames {
		for _, v := range []uint32{0, 0, uint32(len(f)), uint32(len(f))} { // seconds, microseconds, lengths
			b = binary.LittleEndian.AppendUint32(b, v)
		}
		b = append(b, f...)
	}
	return os.WriteFile(path, b, 0o600)
}
