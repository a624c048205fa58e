// Command vhostswitch answers how virtual machines of QEMU, Cloud Hypervisor, crosvm or DPDK are plugged into a switch
// by vhost-user: a learning switch whose ports are the sockets that it is given, and nothing else.
//
//	go run ./examples/vhostswitch -sockets /run/vm1.sock,/run/vm2.sock
//
// and for each machine, whose memory must be shared with the switch:
//
//	qemu-system-x86_64 … -object memory-backend-memfd,id=mem,size=512M,share=on -numa node,memdev=mem \
//	  -chardev socket,id=c0,path=/run/vm1.sock,reconnect=1 -netdev vhost-user,id=n0,chardev=c0 \
//	  -device virtio-net-pci,netdev=n0
//
// With -client the machines listen and the switch connects; with -config it gives crosvm what it asks for. It needs no
// root, runs until it is interrupted or terminated, and prints its counters then. Linux only.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/hvswitch/hvswitch/examples/internal/table"
	"github.com/hvswitch/hvswitch/ports/vhostuser"
	"github.com/hvswitch/hvswitch/vswitch"
)

func main() {
	var o options
	sockets := flag.String("sockets", "", "paths of the unix sockets, `A,B,…`: one port each")
	flag.BoolVar(&o.client, "client", false, "connect to the sockets instead of listening on them")
	flag.BoolVar(&o.poll, "poll", false, "poll the machines without pause: less delay, and a processor that is always busy")
	flag.BoolVar(&o.config, "config", false, "offer the machines the configuration of their cards, for crosvm")
	flag.IntVar(&o.queues, "queues", 1, "queue pairs of a port")
	flag.IntVar(&o.workers, "workers", 1, "goroutines that move frames")
	flag.BoolVar(&o.verbose, "v", false, "log connections")
	flag.Parse()
	if *sockets == "" || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	o.sockets = strings.Split(*sockets, ",")
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "vhostswitch:", err)
		os.Exit(1)
	}
}

type options struct {
	sockets                       []string
	client, config, poll, verbose bool
	queues, workers               int
}

// run switches frames until ctx is done and prints the counters.
func run(ctx context.Context, o options, out io.Writer) error {
	level := slog.LevelWarn
	if o.verbose {
		level = slog.LevelInfo
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	host, err := vswitch.NewHost(&vswitch.HostConfig{Workers: o.workers, Logger: log})
	if err != nil {
		return err
	}
	defer host.Close()
	sw, err := host.NewSwitch("vhostswitch", nil)
	if err != nil {
		return err
	}
	for _, path := range o.sockets {
		if err := plug(host, path, o, log); err != nil {
			return err
		}
	}
	fmt.Fprintf(out, "switching between %s\n", strings.Join(o.sockets, ", "))
	<-ctx.Done()
	report(out, sw)
	return nil
}

// plug connects what is behind a socket to the switch, whatever address it has.
func plug(host *vswitch.Host, path string, o options, log *slog.Logger) error {
	cfg := &vhostuser.Config{Queues: o.queues, ServeConfig: o.config, Log: log}
	if o.poll {
		cfg.BusyPoll = time.Second
	}
	open := vhostuser.Listen
	if o.client {
		open = vhostuser.Dial
	}
	port, err := open(path, cfg)
	if err != nil {
		return err
	}
	_, err = host.NewVNIC(filepath.Base(path), port, &vswitch.VNICConfig{
		Switch: "vhostswitch", AllowSpoofing: true, MaxAddresses: 1 << 16,
	})
	return err
}

func report(out io.Writer, sw *vswitch.Switch) {
	t := table.New("port", "received", "bytes", "sent", "bytes", "dropped")
	for _, p := range sw.Stats().Ports {
		t.Row(p.Port, p.RxFrames, p.RxBytes, p.TxFrames, p.TxBytes, fmt.Sprint(p.Drops))
	}
	t.Print(out)
}
