package vhostuser

import "encoding/binary"

const (
	// configLen is the length of what the device has of its configuration (virtio 1.2, 5.1.4): MAC,
	// status, max_virtqueue_pairs and MTU.
	configLen = 12

	// maxConfig is what a front-end may ask for (VHOST_USER_MAX_CONFIG_SIZE); the rest is 0.
	maxConfig = 256

	statusLinkUp = 1
)

// config returns the device configuration.
func (d *device) config() []byte {
	b := append(make([]byte, 0, configLen), d.cfg.MAC[:]...)
	var status uint16
	if d.admin.Load() {
		status = statusLinkUp
	}
	b = binary.LittleEndian.AppendUint16(b, status)
	b = binary.LittleEndian.AppendUint16(b, uint16(d.cfg.Queues))
	return binary.LittleEndian.AppendUint16(b, uint16(d.cfg.MTU))
}

// getConfig answers GET_CONFIG: offset, size and flags, and as many bytes.
func (s *session) getConfig(m *message) error {
	offset, size := m.u32(0), m.u32(4)
	if offset > maxConfig || size > maxConfig-offset || int(size) != len(m.payload)-12 {
		return errPayload
	}
	var all [maxConfig]byte
	copy(all[:], s.dev.config())
	b := append([]byte(nil), m.payload[:12]...)
	return s.reply(m, append(b, all[offset:offset+size]...), -1)
}
