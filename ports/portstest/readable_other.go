//go:build !unix

package portstest

import "time"

func readable(time.Duration, ...int) bool { panic("ports.Pollable needs a Unix system") }
