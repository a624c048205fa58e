//go:build !linux

package main

import (
	"runtime"
	"time"
)

var cpus = make([]int, runtime.NumCPU())

func pinThread(int) (undo func())  { return func() {} }
func pinProcess(int) (undo func()) { return func() {} }
func ownTime() time.Duration       { return 0 }
