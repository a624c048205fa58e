package qos_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/qos"
)

func TestConfigErrors(t *testing.T) {
	for _, c := range []struct {
		cfg  qos.Config
		want string
	}{
		{qos.Config{Mode: 7}, "qos: Mode 7: is not Weight or Absolute"},
		{qos.Config{LinkRate: 999}, "qos: LinkRate 999: is out of 1000–10000000000000 bit/s"},
		{qos.Config{Mode: qos.Absolute}, "qos: LinkRate 0: mode Absolute needs one"},
		{qos.Config{Default: qos.ClassConfig{MinWeight: 101}}, `qos: class "default": MinWeight 101: is out of 0–100`},
	} {
		_, err := qos.New[int](&c.cfg, nil)
		require.EqualError(t, err, c.want)
		var e *qos.ConfigError
		require.ErrorAs(t, err, &e)
	}
	s := newScheduler(t, &qos.Config{Mode: qos.Absolute, LinkRate: gigabit}, nil)
	require.EqualError(t, s.SetLink(0, 0), "qos: LinkRate 0: mode Absolute needs one")
	require.EqualError(t, s.SetLink(1e14, 0), "qos: LinkRate 100000000000000: is out of 1000–10000000000000 bit/s")
}

func TestClassConfigErrors(t *testing.T) {
	for _, c := range []struct {
		mode qos.Mode
		cfg  qos.ClassConfig
		want string
	}{
		{qos.Weight, qos.ClassConfig{MinWeight: -1}, "MinWeight -1: is out of 0–100"},
		{qos.Weight, qos.ClassConfig{MinWeight: 101}, "MinWeight 101: is out of 0–100"},
		{qos.Absolute, qos.ClassConfig{MinWeight: 1}, "MinWeight 1: the mode is Absolute"},
		{qos.Weight, qos.ClassConfig{MinRate: 1000}, "MinRate 1000: the mode is Weight"},
		{qos.Absolute, qos.ClassConfig{MinRate: 999}, "MinRate 999: is out of 1000–10000000000000 bit/s"},
		{qos.Absolute, qos.ClassConfig{MinRate: 20e6, MaxRate: 10e6}, "MinRate 20000000: is above MaxRate 10000000"},
		{qos.Absolute, qos.ClassConfig{MinRate: 2e9}, "MinRate 2000000000: with the 0 bit/s of other classes is above LinkRate 1000000000"},
		{qos.Weight, qos.ClassConfig{MaxRate: 1}, "MaxRate 1: is out of 1000–10000000000000 bit/s"},
		{qos.Weight, qos.ClassConfig{MaxRate: 1e14}, "MaxRate 100000000000000: is out of 1000–10000000000000 bit/s"},
		{qos.Weight, qos.ClassConfig{MaxRate: 1e9, Burst: -1}, "Burst -1: is out of 0–1073741824"},
		{qos.Weight, qos.ClassConfig{Burst: 1000}, "Burst 1000: there is no MaxRate"},
		{qos.Weight, qos.ClassConfig{QueueBytes: -1}, "QueueBytes -1: is out of 0–1073741824"},
		{qos.Weight, qos.ClassConfig{QueueFrames: 1 << 21}, "QueueFrames 2097152: is out of 0–1048576"},
	} {
		s := newScheduler(t, &qos.Config{Mode: c.mode, LinkRate: gigabit}, nil)
		good, err := s.Add(qos.ClassConfig{Name: "good"})
		require.NoError(t, err)
		c.cfg.Name = "vm3"
		_, err = s.Add(c.cfg)
		require.EqualError(t, err, `qos: class "vm3": `+c.want)
		require.EqualError(t, good.Set(c.cfg, 0), `qos: class "vm3": `+c.want)
		require.Equal(t, qos.ClassConfig{Name: "good"}, good.Config(), "nothing has changed")
	}
}

func TestModeString(t *testing.T) {
	require.Equal(t, "weight absolute mode 9", qos.Weight.String()+" "+qos.Absolute.String()+" "+qos.Mode(9).String())
}
