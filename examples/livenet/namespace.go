package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// namespace is the name of a network namespace.
type namespace string

// ip runs the program ip in the namespace.
func (n namespace) ip(ctx context.Context, args ...string) (string, error) {
	return ip(ctx, append([]string{"-n", string(n)}, args...)...)
}

// command prepares a program to run in the namespace until ctx ends.
func (n namespace) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", string(n), program}, args...)...)
	c.Env = append(os.Environ(), "LC_ALL=C")
	c.WaitDelay = time.Second
	ownGroup(c)
	return c
}

// ip runs the program ip unless ctx has ended. It is never stopped half way.
func ip(ctx context.Context, args ...string) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	c := exec.Command("ip", args...)
	ownGroup(c)
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		return "", fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return string(out), nil
}
