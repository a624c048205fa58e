//go:build race

package team_test

const million = 100_000 // the race detector is slow
