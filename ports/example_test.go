package ports_test

import (
	"context"
	"fmt"
	"log"

	"github.com/hvswitch/hvswitch/ports"
)

// A pipe is a cable in memory. WriteFrame and ReadFrame are its simple face, for tests and for
// programs that carry few frames.
func ExamplePipe() {
	host, guest, err := ports.Pipe(&ports.PipeConfig{Name: "vm1", MTU: 9000})
	if err != nil {
		log.Fatal(err)
	}
	defer host.Close()

	ctx := context.Background()
	frame := []byte("\xff\xff\xff\xff\xff\xff\x02\x00\x00\x00\x00\x01\x88\xb5hello")
	if err := guest.WriteFrame(ctx, frame); err != nil {
		log.Fatal(err)
	}
	buf := make([]byte, ports.MaxFrame)
	n, err := host.ReadFrame(ctx, buf)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%d bytes: %s\n", n, buf[14:n])
	// Output: 19 bytes: hello
}

// Queues carry batches without blocking; this is what a switch does with a port.
func ExamplePipe_batches() {
	a, b, err := ports.Pipe(nil)
	if err != nil {
		log.Fatal(err)
	}
	defer a.Close()

	// Two frames, one of them in VLAN 100: the tag rides beside the bytes.
	frames := []*ports.Frame{new(ports.Frame), new(ports.Frame)}
	for _, f := range frames {
		f.SetHead(make([]byte, ports.Headroom+60), ports.Headroom, 60)
	}
	frames[1].VLAN = ports.Tag{TPID: ports.TPID8021Q, TCI: 100}
	sent, err := a.Tx(0).Send(frames)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("sent", sent)

	batch, rx := ports.NewBatch(64), b.Rx(0)
	if err := rx.Recv(batch); err != nil {
		log.Fatal(err)
	}
	for _, f := range batch.Frames() {
		fmt.Println(f.Len(), "bytes, VLAN", f.VLAN.VID())
	}
	batch.Reset()
	rx.Release() // the frames belong to the pipe again
	// Output:
	// sent 2
	// 60 bytes, VLAN 0
	// 60 bytes, VLAN 100
}

// A receiver that has nothing to do asks for a bell, and sleeps.
func ExampleNotifier() {
	a, b, err := ports.Pipe(nil)
	if err != nil {
		log.Fatal(err)
	}
	defer a.Close()

	arrived := make(chan struct{}, 1)
	rx := b.Rx(0)
	bell := rx.(ports.Notifier)
	bell.SetBell(func() { arrived <- struct{}{} })

	if !bell.Arm() { // false: nothing is there, so wait
		go a.WriteFrame(context.Background(), make([]byte, 60))
		<-arrived
	}
	batch := ports.NewBatch(64)
	if err := rx.Recv(batch); err != nil {
		log.Fatal(err)
	}
	fmt.Println("received", batch.Len())
	// Output: received 1
}

func ExamplePipeEnd_SetLink() {
	a, b, err := ports.Pipe(&ports.PipeConfig{Speed: 10e9})
	if err != nil {
		log.Fatal(err)
	}
	defer a.Close()
	b.WatchLink(func(l ports.Link) { fmt.Println("up:", l.Up) })
	a.SetLink(false)
	fmt.Println(a.WriteFrame(context.Background(), make([]byte, 60)))
	a.SetLink(true) // and Close takes it down again
	// Output:
	// up: false
	// link is down
	// up: true
	// up: false
}
