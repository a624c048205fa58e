package main

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vswitch"
)

// vmMoves has vm2 download a file meanwhile and look at it later. What the switch writes while QEMU sends the memory
// gets across only if QEMU learns which pages that changes.
func (s *scene) vmMoves(t *testing.T) {
	there, err := newLab("there", "vhost-user", "tcg", s.image)
	require.NoError(t, err)
	defer func() { require.NoError(t, there.close()) }()
	join(t, s.lab, there)
	said, err := s.vm1.run(s.ctx, "head -c $((16 << 20)) /dev/urandom >/tmp/data && httpd -h /tmp && md5sum </tmp/data")
	require.NoError(t, err)
	sum := checksum(said)
	require.NotEmpty(t, sum)

	from, socket := s.vm2, filepath.Join(there.dir, "migration")
	s.vm2 = s.start(t, there, "vm2", 2, "-incoming", "unix:"+socket)
	require.Eventually(t, func() bool { return exists(socket) }, long, time.Millisecond, "QEMU does not listen")
	s.gap(t, func() {
		// As long as vm2 writes memory and may not stop, the migration goes on.
		_, err := from.run(s.ctx, "while :; do cat /bin/busybox /bin/busybox /bin/busybox >/tmp/busy; done & busy=$!")
		require.NoError(t, err)
		move := startMigration(t, from, "unix:"+socket)
		defer move.close()
		awaitMigration(t, move, func(m migration) bool { return m.RAM.Passes > 1 })

		before := s.host.VNIC("vm2").Stats().TxBytes
		_, err = from.run(s.ctx, "wget -q -O - http://%v/data | (until [ -e /tmp/moved ]; do usleep 50000; done; md5sum) >/tmp/sum &", s.vm1.addr.Addr())
		require.NoError(t, err)
		// The pipe takes 64 KiB and the socket at least as much, then wget waits.
		require.Eventually(t, func() bool { return s.host.VNIC("vm2").Stats().TxBytes > before+96<<10 }, long, time.Millisecond, "the download does not begin")

		require.NoError(t, move.execute("migrate-set-parameters", map[string]int{"downtime-limit": 1000}, nil))
		m := awaitMigration(t, move, func(m migration) bool { return m.Status == "completed" })
		t.Logf("QEMU took %d passes, stopped the guest for %d ms and sent %d MB", m.RAM.Passes, m.Downtime, m.RAM.Transferred>>20)
		// From here on the address of the VM is one behind the uplink.
		require.NoError(t, s.host.VNIC("vm2").Close())
		from.stop()
		s.await(t, there.host.VNIC("vm2"), true)
	})
	said, err = s.vm2.run(s.ctx, "touch /tmp/moved && kill $busy && wait $! && cat /tmp/sum")
	require.NoError(t, err)
	require.Equal(t, sum, checksum(said), "what the guest downloaded while it moved")
}

var md5Line = regexp.MustCompile(`^([0-9a-f]{32}) `)

// checksum finds what md5sum printed.
func checksum(said []line) string {
	for _, l := range said {
		if m := md5Line.FindStringSubmatch(l.text); m != nil {
			return m[1]
		}
	}
	return ""
}

// join makes the switches of two hosts external ones with a cable between their uplinks.
func join(t *testing.T, a, b *lab) {
	t.Helper()
	const uplink = "uplink"
	one, other, err := ports.Pipe(&ports.PipeConfig{Name: uplink, Offloads: ports.OffloadAll})
	require.NoError(t, err)
	for l, end := range map[*lab]*ports.PipeEnd{a: one, b: other} {
		_, err := l.host.AddNIC(uplink, end)
		require.NoError(t, err)
		cfg := l.sw.Config()
		cfg.Type, cfg.Uplink = vswitch.External, uplink
		require.NoError(t, l.sw.SetConfig(cfg))
	}
}

// migration is what QEMU says about one.
type migration struct {
	Status   string
	Downtime int // ms
	RAM      struct {
		Transferred int // bytes
		Passes      int `json:"dirty-sync-count"`
	}
	Desc string `json:"error-desc"`
}

// startMigration begins to send a VM while it runs, which must not stop for a moment yet.
func startMigration(t *testing.T, v *vm, uri string) *qmp {
	t.Helper()
	q, err := dialQMP(v.monitor())
	require.NoError(t, err)
	require.NoError(t, q.execute("migrate-set-parameters", map[string]int{"max-bandwidth": 32 << 20, "downtime-limit": 1}, nil))
	require.NoError(t, q.execute("migrate", map[string]string{"uri": uri}, nil))
	return q
}

func awaitMigration(t *testing.T, q *qmp, done func(migration) bool) (m migration) {
	t.Helper()
	require.Eventually(t, func() bool {
		require.NoError(t, q.execute("query-migrate", nil, &m))
		return done(m) || m.Status == "failed"
	}, long, 5*time.Millisecond)
	require.NotEqual(t, "failed", m.Status, m.Desc)
	return m
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}
