//go:build !linux

package main

func sockBenches() []*bench { return nil }
