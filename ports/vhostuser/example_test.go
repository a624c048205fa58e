package vhostuser_test

import (
	"log"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/ports/vhostuser"
)

// A QEMU that is started with
//
//	-object memory-backend-memfd,id=mem,size=4G,share=on -machine memory-backend=mem
//	-chardev socket,id=c0,path=/run/vm1.sock,reconnect=1
//	-netdev vhost-user,id=n0,chardev=c0,queues=2 -device virtio-net-pci,netdev=n0,mq=on
//
// finds its network card here.
func ExampleListen() {
	port, err := vhostuser.Listen("/run/vm1.sock", &vhostuser.Config{Name: "vm1", Queues: 2})
	if err != nil {
		log.Fatal(err)
	}
	defer port.Close()
	port.WatchLink(func(l ports.Link) { log.Printf("vm1: link up: %t", l.Up) })
}
