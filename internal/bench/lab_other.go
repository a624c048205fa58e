//go:build !linux

package main

const toolEnv = "HVSWITCH_BENCH_TOOL"

func runTool(string, []string)                {}
func enterLab([]*bench) (code int, done bool) { return 0, false }
func labBenches() []*bench                    { return nil }
