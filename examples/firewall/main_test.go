package main

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFirewall(t *testing.T) {
	out, err := os.Create(t.TempDir() + "/out")
	require.NoError(t, err)
	require.NoError(t, run(out))
	text, err := os.ReadFile(out.Name())
	require.NoError(t, err)
	require.Contains(t, string(text), "denied: client: 10.0.0.1 to 10.0.0.3:5432")
	require.Contains(t, string(text), "denied: web: 10.0.0.2 to 10.0.0.3:5432")
}
