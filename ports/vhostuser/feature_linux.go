package vhostuser

import "github.com/hvswitch/hvswitch/ports"

// Feature bits of virtio 1.2, sections 5.1.3 and 6, and of vhost-user ("VHOST_USER_F_PROTOCOL_FEATURES",
// "Migration").
const (
	featCSum      = 1 << 0
	featGuestCSum = 1 << 1
	featMTU       = 1 << 3
	featMAC       = 1 << 5
	featGuestTSO4 = 1 << 7
	featGuestTSO6 = 1 << 8
	featGuestECN  = 1 << 9
	featHostTSO4  = 1 << 11
	featHostTSO6  = 1 << 12
	featHostECN   = 1 << 13
	featMergeable = 1 << 15
	featStatus    = 1 << 16
	featAnnounce  = 1 << 21
	featMQ        = 1 << 22
	featLogAll    = 1 << 26
	featAnyLayout = 1 << 27
	featIndirect  = 1 << 28
	featEventIdx  = 1 << 29
	featProtocol  = 1 << 30
	featVersion1  = 1 << 32
	featPacked    = 1 << 34
	featInOrder   = 1 << 35
	featGuestUSO4 = 1 << 54
	featGuestUSO6 = 1 << 55
	featHostUSO   = 1 << 56
)

// Protocol feature bits (vhost-user, "Protocol features").
const (
	protoMQ       = 1 << 0
	protoLogShmFD = 1 << 1
	protoRARP     = 1 << 2
	protoReplyAck = 1 << 3
	protoMTU      = 1 << 4
	protoBackend  = 1 << 5
	protoConfig   = 1 << 9
	protoInflight = 1 << 12
	protoReset    = 1 << 13
	protoMemSlots = 1 << 15

	protoAlways = protoMQ | protoLogShmFD | protoRARP | protoReplyAck | protoMTU | protoInflight | protoReset | protoMemSlots
)

// protocol returns the protocol features that the device offers. The back-end channel only tells of changes of the
// configuration.
func (c *Config) protocol() uint64 {
	if c.ServeConfig {
		return protoAlways | protoBackend | protoConfig
	}
	return protoAlways
}

// features returns what the device offers.
func (c *Config) features() uint64 {
	f := uint64(featMTU | featMergeable | featStatus | featAnnounce | featLogAll | featAnyLayout | featIndirect |
		featEventIdx | featProtocol | featVersion1 | featPacked | featInOrder)
	if !c.MAC.IsZero() {
		f |= featMAC
	}
	if c.Queues > 1 {
		f |= featMQ
	}
	o := c.offloads()
	for _, p := range offloadFeatures {
		if o&p.offload != 0 {
			f |= p.host | p.guest
		}
	}
	return f
}

// offloadFeatures says which features let a guest leave work to us, and which let us leave it to a
// guest.
var offloadFeatures = []struct {
	offload     ports.Offloads
	host, guest uint64
}{
	{ports.OffloadChecksum, featCSum, featGuestCSum},
	{ports.OffloadTCP4, featHostTSO4, featGuestTSO4},
	{ports.OffloadTCP6, featHostTSO6, featGuestTSO6},
	{ports.OffloadECN, featHostECN, featGuestECN},
	{ports.OffloadUDP, featHostUSO, featGuestUSO4 | featGuestUSO6},
}

// offloadsOf returns what a guest that negotiated these features may leave to us, and we to it.
func offloadsOf(features uint64) (host, guest ports.Offloads) {
	for _, p := range offloadFeatures {
		if features&p.host == p.host {
			host |= p.offload
		}
		if features&p.guest == p.guest {
			guest |= p.offload
		}
	}
	if host&ports.OffloadChecksum == 0 {
		host = 0
	}
	if guest&ports.OffloadChecksum == 0 {
		guest = 0
	}
	return host, guest
}
