package main

import (
	"fmt"
	"io"
	"path"
	"strings"
)

// cpio writes an archive of the format "newc", of which Linux makes its first root file system
// (Documentation/driver-api/early-userspace/buffer-format.rst). Archives may follow one another.
type cpio struct {
	w    io.Writer
	made map[string]bool // directories
	err  error
}

func newCPIO(w io.Writer) *cpio { return &cpio{w: w, made: map[string]bool{}} }

// Types of inodes, as in stat(2).
const (
	cpioDir     = 0o040000
	cpioRegular = 0o100000
)

// add writes an executable file, and before it the directories on its path.
func (c *cpio) add(name string, content []byte) {
	name = strings.TrimPrefix(path.Clean(name), "/")
	c.mkdir(path.Dir(name))
	c.entry(name, cpioRegular|0o755, content)
}

// mkdir writes a directory unless it has been.
func (c *cpio) mkdir(name string) {
	name = strings.TrimPrefix(path.Clean(name), "/")
	if name == "." || c.made[name] {
		return
	}
	c.mkdir(path.Dir(name))
	c.made[name] = true
	c.entry(name, cpioDir|0o755, nil)
}

// close ends the archive and returns the first error.
func (c *cpio) close() error {
	c.entry("TRAILER!!!", 0, nil)
	return c.err
}

// entry writes a header of 110 bytes, the name and its NUL, and the content, each padded to 4 bytes.
func (c *cpio) entry(name string, mode int, content []byte) {
	if c.err != nil {
		return
	}
	const ino, uid, gid, links, mtime, major, minor, check = 0, 0, 0, 1, 0, 0, 0, 0
	head := "070701"
	for _, field := range []int{ino, mode, uid, gid, links, mtime, len(content), major, minor, major, minor, len(name) + 1, check} {
		head += fmt.Sprintf("%08x", field)
	}
	head += name + "\x00"
	for _, part := range []string{head, string(content)} {
		if c.err == nil {
			_, c.err = io.WriteString(c.w, part+strings.Repeat("\x00", -len(part)&3))
		}
	}
}
