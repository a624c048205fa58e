package natsstore_test

import (
	"context"
	"fmt"
	"log"
	"net/netip"

	"github.com/hvswitch/hvswitch/overlay"
	"github.com/hvswitch/hvswitch/overlay/natsstore"
	"github.com/hvswitch/hvswitch/ports"
)

// A controller with an embedded server, and a host that follows one network there.
func Example() {
	ctx := context.Background()
	controller, err := natsstore.Open(ctx, &natsstore.Options{Listen: "127.0.0.1:0"})
	if err != nil {
		log.Fatal(err)
	}
	defer controller.Close()
	red := overlay.RDID{0xed}
	if _, err := controller.Commit(ctx, []overlay.Change{
		{Subnet: &overlay.Subnet{VSID: 5001, RDID: red}},
		{Record: &overlay.LookupRecord{VSID: 5001, CA: netip.MustParseAddr("10.0.0.5"),
			MAC: ports.MAC{0, 0x15, 0x5d, 0, 0, 5}, PA: netip.MustParseAddr("192.0.2.1")}},
	}); err != nil {
		log.Fatal(err)
	}

	host, err := natsstore.Open(ctx, &natsstore.Options{URL: controller.ClientURL()})
	if err != nil {
		log.Fatal(err)
	}
	defer host.Close()
	w, err := host.Watch(ctx, red) // store.NewFollower does this for an engine
	if err != nil {
		log.Fatal(err)
	}
	e, err := w.Next(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("snapshot of", len(e.Changes), "objects")

	_, err = controller.Commit(ctx, []overlay.Change{{Record: &overlay.LookupRecord{VSID: 5001,
		CA: netip.MustParseAddr("10.0.0.5"), MAC: ports.MAC{0, 0x15, 0x5d, 0, 0, 5}, PA: netip.MustParseAddr("192.0.2.2")}}})
	if err != nil {
		log.Fatal(err)
	}
	e, err = w.Next(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(e.Changes[0].Record.CA, "is at", e.Changes[0].Record.PA)
	// Output:
	// snapshot of 2 objects
	// 10.0.0.5 is at 192.0.2.2
}
