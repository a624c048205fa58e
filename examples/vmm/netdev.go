package main

import (
	"os"
	"path/filepath"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/ports/sock"
	"github.com/hvswitch/hvswitch/ports/vhostuser"
)

// cable is the way from the switch to a guest.
type cable struct {
	port  ports.Backend // the end at the switch
	args  []string      // of QEMU: the end at the guest, which is called net
	files []*os.File    // that args count on as descriptors 3 and up
}

// netdevs open the port for the VM of that name and say how QEMU gets to it. Sockets are in dir.
var netdevs = map[string]func(dir, name string) (*cable, error){
	"vhost-user": vhostUser, "stream": stream, "dgram": dgram, "tap": openTAP,
}

// vhostUser lets the switch work in the memory of the guest: QEMU sets it up and is out of the way of frames.
func vhostUser(dir, name string) (*cable, error) {
	path := filepath.Join(dir, name+".sock")
	port, err := vhostuser.Listen(path, nil)
	return &cable{port: port, args: []string{
		// When the switch goes away QEMU tries every second whether it is back.
		"-chardev", "socket,id=switch,reconnect=1,path=" + path,
		"-netdev", "vhost-user,id=net,chardev=switch",
	}}, err
}

// stream has QEMU send frames, each behind its length, by a connection that it makes.
func stream(dir, name string) (*cable, error) {
	path := filepath.Join(dir, name+".sock")
	port, err := sock.ListenStream(path, nil)
	return &cable{port: port, args: []string{
		"-netdev", "stream,id=net,server=off,addr.type=unix,addr.path=" + path,
	}}, err
}

// dgram has QEMU send frames as datagrams.
func dgram(dir, name string) (*cable, error) {
	ours, theirs := filepath.Join(dir, name+".switch.sock"), filepath.Join(dir, name+".sock")
	port, err := sock.Dgram(ours, theirs, nil)
	return &cable{port: port, args: []string{
		"-netdev", "dgram,id=net,local.type=unix,local.path=" + theirs + ",remote.type=unix,remote.path=" + ours,
	}}, err
}

func (c *cable) closeFiles() {
	for _, f := range c.files {
		_ = f.Close()
	}
}

// card returns the arguments of QEMU for the network card of the guest.
func card(netdev, accel string, mac ports.MAC) []string {
	device := "virtio-net-pci,netdev=net,romfile=,mac=" + mac.String()
	if netdev == "vhost-user" && accel == "tcg" {
		// Without KVM, QEMU has no way to raise an MSI-X interrupt for an event of the switch; some versions crash.
		device += ",vectors=0"
	}
	return []string{"-device", device}
}
