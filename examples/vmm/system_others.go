//go:build !linux

package main

import (
	"errors"
	"os/exec"
	"time"
)

func dieWithUs(*exec.Cmd)         {}
func cpuTime() time.Duration      { return 0 }
func cpuTimeOf(int) time.Duration { return 0 }

func openTAP(string, string) (*cable, error) { return nil, errors.ErrUnsupported }
