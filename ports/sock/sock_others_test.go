//go:build !linux

package sock

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestOtherSystems(t *testing.T) {
	_, err := ListenStream("vm1.sock", nil)
	require.ErrorIs(t, err, errors.ErrUnsupported)
	_, err = DialStream("vm1.sock", nil)
	require.ErrorIs(t, err, errors.ErrUnsupported)
	_, err = Dgram("switch.sock", "vm1.sock", nil)
	require.ErrorIs(t, err, errors.ErrUnsupported)
	_, err = FromConn(nil, nil)
	require.ErrorIs(t, err, errors.ErrUnsupported)
}
