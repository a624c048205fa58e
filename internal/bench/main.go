// Command bench measures this library beside its peers and beside what the machine allows, on the
// same machine in the same minute. Run it from the root of the repository:
//
//	go run ./internal/bench [-json] [-run REGEXP] [-short]
//
// Absolute figures drift on shared machines, so every row is a ratio inside one run: ours, the
// peer's and the limit's repetitions take turns, and the medians are compared.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"runtime/pprof"
	"slices"
)

const help = `usage: bench [-json] [-run REGEXP] [-short] [-list] [-rep DURATION] [-cpuprofile FILE]

Each row is the median of at least five repetitions, in turns with those of the peer and the limit.

  value        ours: ns a frame, µs a round trip, Gbit/s or Mframe/s, see unit; with cores=1 of the
               processor's time, which others on the machine disturb least, otherwise of the clock
  allocs       memory allocations a frame of ours (of the whole process), where they are counted
  peer         another switch doing the same; ratio is ours over the peer's, bigger is better:
               peer_value/value for times, value/peer_value for rates
  limit        what the machine allows a program that does only the unavoidable part;
               limit_ratio is ours relative to it, bigger is better, 1.0 = at the limit:
               limit_value/value for times, value/limit_value for rates
  copy         ns for the bare memory copy of the same bytes, in the memory rows

Memory rows: guests whose transmit rings hold prepared frames and whose receive rings take one copy.
batch: frames a guest has ready at once; ports: all of them send, but with /idle only two do;
addresses: spread over the ports, sources and destinations random; /random, and with 1M addresses: the
frames do not repeat, so that no branch predictor learns them; cores=2: two workers. In the pipe rows
frames come and go through ports.Pipe (two copies where the limit has one) from a generator and sink,
which with cores=2 have a core of their own. limit is the bare loop that parses, looks two
addresses up in an open-addressing table and copies once, for 65,535 bytes the bare copy.
A growth row is how many times more a frame costs with more addresses or ports.

Policy rows: guards (DHCP, router, IP source, ARP inspection) and ACLs on vNICs that exchange 64-byte
frames (TCP without data or UDP, padded) in batches of 32, on one core. established: 64 connections,
opened both ways before; new: each frame is the first of a connection, of which the ACL remembers the
last 4,096. guards+acl: the sender's ACL, with +receiver that of the receiver too. rules=N: so many
extended rules of mixed prefixes, ports and protocols, and two defaults below them; the frames match the
allowing ones alike. limit is this switch without any policy, or from 1,000 rules on, with 10.

Extension rows: extensions of the switch with the frames of the policy rows, and no policy. filter lets
all pass, firewall allows all connections, capture writes every frame to nowhere in pcapng: at the port of
the sender, at both ports, or with a filter that no frame matches. mirror copies to a third vNIC. limit is
this switch without extensions.

team, qos, toeplitz and overlay rows: packages that can be used without a switch, with frames of 64 bytes
in batches of 32 on one core. team: frames cross ports.Pipe, whose one end is a team of two, sent by it or
received; limit is two pipes alone, half of the frames in each, and the note says by how much ours is over it. qos: a frame is
queued by a scheduler and taken out; saturated: 64 frames of each class are always queued; limit is the
bare copy of 64 bytes. qos/switch: a vNIC with a maximum that it does not reach, or an uplink that divides
its bandwidth and has enough; limit is the switch without. toeplitz: the hash of a TCP tuple; limit is a look-up of each byte of a tuple that
lies ready. overlay: outer headers are put in front of a frame of that size and taken away again; 65535B is
the outer IP packet, with cut it is the inner frame, which leaves in frames of 1,500 bytes; limit is
forwarding of the same frame by the switch without an overlay.

tap and afpacket rows need root, iproute2 and for TCP iperf3. They run in a network namespace of
their own. limit is a bare relay between the two devices, peer the kernel bridge between veth, or
Open vSwitch in user space where it is installed. 64B is what arrives of more than can arrive, from a
sender with a core of its own. tcp/cpu is the processor time of a gigabit (10⁹ bits) in the switch's
process, in the kernel too; cpu-all that of the whole machine, both ends of the stream included, which
is all that can be told of the kernel bridge. short: the sender cuts its segments itself, into frames of
1,514 bytes. udp-rtt and tcp-rtt: 64 bytes there and back in a
datagram or on an open connection, with all of it on one CPU or where the scheduler likes. Rows with several
processes believe the clock, so only figures from a machine that is otherwise idle mean something.

vhostuser rows need root, iproute2 and DPDK's testpmd. That is both guests, which have a CPU for
themselves; one sends as fast as it can, and what arrives at the other counts. The switch has one worker,
which polls on another CPU. flows are UDP source ports, macs source addresses, packed rings those of
virtio 1.1. limit is a testpmd that passes frames on without a look at them, peer Open vSwitch with DPDK
where it is installed. If it can, the program has the kernel set huge pages aside meanwhile. What others
do on the machine and how the CPUs lie to each other changes these figures by a multiple. So the note says
how long a cache line takes from CPU to CPU, and only repetitions in the place that was most common count:
near, which share a cache, or far, which do not. rtt is the way of a frame of 64 bytes from one guest to the
other and back, between guests of this program, which poll, on one CPU. The note also says for which share of the time guests or switch
were kept off their CPU by others; such repetitions are taken again a few times. Compare figures of near
CPUs that were kept off for less than 10 %.

sock rows: unix stream sockets instead of the pipes, between processes they would be those of QEMU. limit
is a bare relay that polls, reads many frames, finds where each begins and writes them in one go.

Flags:
`

func main() {
	if tool := os.Getenv(toolEnv); tool != "" {
		os.Unsetenv(toolEnv)
		runTool(tool, os.Args[1:]) // this program is also its own relays and generators
		return
	}
	var opt options
	pattern := flag.String("run", "", "run only rows whose name matches this `regexp`")
	list := flag.Bool("list", false, "print the names of the rows and stop")
	profile := flag.String("cpuprofile", "", "write a CPU profile to this `file`; tag who tells ours, peer and limit apart")
	flag.DurationVar(&opt.rep, "rep", 0, "`duration` of a repetition, longer for a profile; 0 is what suits the row")
	flag.BoolVar(&opt.json, "json", false, "print one JSON object a line")
	flag.BoolVar(&opt.short, "short", false, "take less time: about 4 minutes instead of 13")
	flag.Usage = func() {
		io.WriteString(flag.CommandLine.Output(), help)
		flag.PrintDefaults()
	}
	flag.Parse()
	re, err := regexp.Compile(*pattern)
	if err != nil || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	benches := selectRows(allBenches(), re)
	if *list {
		for _, b := range benches {
			for _, r := range b.rows {
				fmt.Println(r.name)
			}
		}
		return
	}
	if code, done := enterLab(benches); done {
		os.Exit(code)
	}
	if *profile != "" {
		f, err := os.Create(*profile)
		if err == nil {
			err = pprof.StartCPUProfile(f)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	ok := runAll(benches, opt, newPrinter(os.Stdout, opt))
	pprof.StopCPUProfile()
	if !ok {
		os.Exit(1)
	}
}

func allBenches() []*bench {
	return slices.Concat(memoryBenches(), policyBenches(), extensionBenches(), teamBenches(), qosBenches(),
		toeplitzBenches(), overlayBenches(), sockBenches(), labBenches())
}
