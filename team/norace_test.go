//go:build !race

package team_test

const million = 1_000_000
