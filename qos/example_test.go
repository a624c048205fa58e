package qos_test

import (
	"fmt"
	"time"

	"github.com/hvswitch/hvswitch/qos"
)

// Three vNICs with minimums of 20, 50 and 30 want more than an uplink of 1 Gbit/s carries.
func Example() {
	s, err := qos.New[string](&qos.Config{LinkRate: 1_000_000_000}, nil)
	if err != nil {
		panic(err)
	}
	var vnics []*qos.Class[string]
	for i, weight := range []int{20, 50, 30} {
		c, err := s.Add(qos.ClassConfig{Name: fmt.Sprint("vm", i+1), MinWeight: weight})
		if err != nil {
			panic(err)
		}
		vnics = append(vnics, c)
	}

	var batch [32]string
	for now := time.Duration(0); now < time.Second; {
		for _, c := range vnics {
			for c.Stats().Queued < 100 {
				s.Enqueue(c, 1, qos.WireBytes(1514, 0, 0), "frame", now)
			}
		}
		s.Dequeue(batch[:], now) // a switch sends the batch
		wait, _ := s.Next(now)
		now += wait
	}
	for _, c := range vnics {
		fmt.Printf("%s: %.0f Mbit/s\n", c.Config().Name, float64(c.Stats().SentBytes)*8/1e6)
	}
	// Output:
	// vm1: 200 Mbit/s
	// vm2: 500 Mbit/s
	// vm3: 300 Mbit/s
}

func ExampleClass_Set() {
	s, err := qos.New[string](nil, nil)
	if err != nil {
		panic(err)
	}
	vm, err := s.Add(qos.ClassConfig{Name: "vm1", MaxRate: 8_000_000, Burst: 1000})
	if err != nil {
		panic(err)
	}
	for range 4 {
		s.Enqueue(vm, 1, 1500, "frame", 0)
	}
	batch := make([]string, 32)
	wait := func() time.Duration { w, _ := s.Next(0); return w.Round(time.Microsecond) }
	fmt.Println(s.Dequeue(batch, 0), "sent, the next after", wait())

	fmt.Println(vm.Set(qos.ClassConfig{Name: "vm1", MaxRate: 80_000_000, Burst: 1000}, 0), wait())
	fmt.Println(vm.Set(qos.ClassConfig{Name: "vm1", MaxRate: 80}, 0))
	// Output:
	// 1 sent, the next after 500µs
	// <nil> 50µs
	// qos: class "vm1": MaxRate 80: is out of 1000–10000000000000 bit/s
}

// A limit on its own: 8 Mbit/s are 1000 bytes a millisecond.
func ExampleBucket() {
	b := qos.NewBucket(8_000_000, 3000)
	for i := range 5 {
		fmt.Println("frame", i, b.Take(1000, 0), b.Until(1000, 0))
	}
	// Output:
	// frame 0 true 0s
	// frame 1 true 0s
	// frame 2 true 1ms
	// frame 3 false 1ms
	// frame 4 false 1ms
}

// A segment of TCP in a frame of 64 KiB crosses the wire as 45 frames.
func ExampleWireBytes() {
	fmt.Println(qos.WireBytes(60, 0, 0), qos.WireBytes(1514, 0, 0), qos.WireBytes(65_214, 54, 1448))
	// Output: 84 1538 68670
}
