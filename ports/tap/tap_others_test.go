//go:build !linux

package tap

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestOtherSystems(t *testing.T) {
	_, err := Open(nil)
	require.ErrorIs(t, err, errors.ErrUnsupported)
	_, err = FromFD(nil, 3)
	require.ErrorIs(t, err, errors.ErrUnsupported)
}
