package qos_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/hvswitch/hvswitch/qos"
)

// A frame queued and sent, in batches of 32, each of another class and flow.
func BenchmarkFrame(b *testing.B) {
	for _, classes := range []int{1, 3, 16, 1000} {
		for _, kind := range []string{"weights", "maximums", "best effort"} {
			b.Run(fmt.Sprintf("%s/%d classes", kind, classes), func(b *testing.B) {
				s, err := qos.New[*int](&qos.Config{LinkRate: 100e9}, nil)
				if err != nil {
					b.Fatal(err)
				}
				all := make([]*qos.Class[*int], classes)
				for i := range all {
					cfg := qos.ClassConfig{Name: fmt.Sprint("vm", i)}
					switch kind {
					case "weights":
						cfg.MinWeight = 1 + i%100
					case "maximums":
						cfg.MinWeight, cfg.MaxRate = 1+i%100, 90e9
					}
					if all[i], err = s.Add(cfg); err != nil {
						b.Fatal(err)
					}
				}
				const batch = 32
				item := new(int)
				var dst [batch]*int
				var now time.Duration
				next := 0
				round := func() {
					for range batch {
						s.Enqueue(all[next], uint32(next), 1538, item, now)
						if next++; next == classes {
							next = 0
						}
					}
					for n := 0; n < batch; {
						n += s.Dequeue(dst[:batch-n], now)
						now += 4 * time.Microsecond
					}
				}
				for range 100 {
					round()
				}
				b.ReportAllocs()
				for b.Loop() {
					round()
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/batch, "ns/frame")
			})
		}
	}
}

// A frame of a saturated link: 64 frames of each class are always queued.
func BenchmarkSaturated(b *testing.B) {
	for _, classes := range []int{1, 3, 16} {
		b.Run(fmt.Sprintf("%d classes", classes), func(b *testing.B) {
			s, err := qos.New[*int](&qos.Config{LinkRate: 100e9}, nil)
			if err != nil {
				b.Fatal(err)
			}
			of := map[*int]*qos.Class[*int]{}
			for i := range classes {
				c, err := s.Add(qos.ClassConfig{MinWeight: 1 + i})
				if err != nil {
					b.Fatal(err)
				}
				item := new(int)
				*item = i
				of[item] = c
				for j := range 64 {
					s.Enqueue(c, uint32(j%4), 1538, item, 0)
				}
			}
			all := make([]*qos.Class[*int], classes)
			for item, c := range of {
				all[*item] = c
			}
			const batch = 32
			var dst [batch]*int
			var now time.Duration
			flow := uint32(0)
			b.ReportAllocs()
			for b.Loop() {
				for n := 0; n < batch; {
					n += s.Dequeue(dst[n:], now)
					now += 4 * time.Microsecond
				}
				for _, item := range dst {
					flow++
					s.Enqueue(all[*item], flow%4, 1538, item, now)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/batch, "ns/frame")
		})
	}
}

// A frame that finds its queue full.
func BenchmarkOverload(b *testing.B) {
	s, err := qos.New[*int](&qos.Config{LinkRate: 1e9}, nil)
	if err != nil {
		b.Fatal(err)
	}
	item := new(int)
	for i := 0; s.Enqueue(nil, uint32(i), 1538, item, 0); i++ {
		i %= 3
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		s.Enqueue(nil, uint32(i%4), 1538, item, 0)
	}
}

func BenchmarkBucket(b *testing.B) {
	bucket := qos.NewBucket(10e9, 1<<20)
	var now time.Duration
	for b.Loop() {
		now += 1000
		bucket.Take(1538, now)
	}
}

func BenchmarkWireBytes(b *testing.B) {
	sum := 0
	for i := 0; b.Loop(); i++ {
		sum += qos.WireBytes(i&0xffff, 54, 1448)
	}
	_ = sum
}
