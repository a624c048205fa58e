package vlan_test

import (
	"testing"

	"github.com/hvswitch/hvswitch/internal/importtest"
)

func TestThePackageKnowsNobody(t *testing.T) { importtest.Allows(t, importtest.Nothing) }
