package team_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/team"
)

// frameOf makes a frame of bytes behind its addresses.
func frameOf(dst, src ports.MAC, rest ...byte) *ports.Frame {
	b := make([]byte, ports.Headroom, 256)
	b = append(append(append(b, dst[:]...), src[:]...), rest...)
	for len(b) < ports.Headroom+60 {
		b = append(b, 0)
	}
	f := new(ports.Frame)
	f.SetHead(b, ports.Headroom, len(b)-ports.Headroom)
	return f
}

func ipv4(proto byte, payload ...byte) []byte {
	n := 20 + len(payload)
	return append([]byte{8, 0, 0x45, 0, byte(n >> 8), byte(n), 0, 0, 0, 0, 64, proto, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2}, payload...)
}

func ipv6(next byte, payload ...byte) []byte {
	b := []byte{0x86, 0xdd, 0x60, 0, 0, 0, 0, byte(len(payload)), next, 255}
	b = append(b, 0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1)
	b = append(b, 0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2)
	return append(b, payload...)
}

func icmp6(kind byte) []byte { return ipv6(58, append([]byte{kind, 0, 0, 0}, make([]byte, 20)...)...) }

func udp(port uint16) []byte {
	return binary.BigEndian.AppendUint16([]byte{4, 0}, port)
}

var arp = []byte{8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 2, 0, 10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 10, 0, 0, 2}

// Which member frames of a vNIC leave by and with which source, in mode switch independent.
func TestSourceAddressRules(t *testing.T) {
	const (
		spread   = iota // by any member, with its own address unless it is the pinned one
		pinned          // by the member to which the vNIC is pinned, unchanged
		reported        // by the primary, with its address unless it is the pinned one
	)
	host, group := hostOf(1), ports.MAC{1, 0, 0x5e, 0, 0, 9}
	group6 := ports.MAC{0x33, 0x33, 0, 0, 0, 1}
	hop := []byte{58, 0, 5, 2, 0, 0, 1, 0}
	for name, c := range map[string]struct {
		dst         ports.MAC
		body        func(i int) []byte
		hash, hyper int
	}{
		"UDP": {host, func(i int) []byte { return ipv4(17, append(udp(uint16(i)), 0, 8, 0, 0)...) }, spread, pinned},
		"TCP over IPv6": {host, func(i int) []byte {
			return ipv6(6, append(udp(uint16(i)), 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 0, 0, 0, 0, 0, 0)...)
		}, spread, pinned},
		"ARP":                  {ports.Broadcast, func(int) []byte { return arp }, pinned, pinned},
		"ARP to a station":     {host, func(int) []byte { return arp }, pinned, pinned},
		"RARP":                 {ports.Broadcast, func(int) []byte { return []byte{0x80, 0x35} }, pinned, pinned},
		"solicitation":         {group6, func(int) []byte { return icmp6(135) }, pinned, pinned},
		"solicitation, direct": {host, func(int) []byte { return icmp6(135) }, pinned, pinned},
		"advertisement":        {host, func(int) []byte { return icmp6(136) }, pinned, pinned},
		"router solicitation":  {host, func(int) []byte { return icmp6(133) }, pinned, pinned},
		"unknown protocol":     {host, func(i int) []byte { return []byte{0x88, 0xb5, byte(i)} }, pinned, pinned},
		"malformed IPv4":       {host, func(i int) []byte { return []byte{8, 0, 0x44, byte(i)} }, pinned, pinned},
		"multicast":            {group, func(i int) []byte { return ipv4(17, append(udp(uint16(i)), 0, 8, 0, 0)...) }, pinned, pinned},
		"VRRP":                 {host, func(i int) []byte { return ipv4(112, make([]byte, 20)...) }, pinned, pinned},
		"IGMP report":          {group, func(int) []byte { return ipv4(2, 0x16, 0, 0, 0, 224, 0, 0, 9) }, reported, reported},
		"MLD report": {group6, func(int) []byte {
			b := ipv6(0, append(hop, append([]byte{143}, make([]byte, 27)...)...)...)
			return b
		}, reported, reported},
	} {
		for _, d := range []team.Distribution{team.HyperVPort, team.AddressHash, team.Dynamic} {
			t.Run(fmt.Sprintf("%s, %v", name, d), func(t *testing.T) {
				near, far := pipes(t, 4, &ports.PipeConfig{Depth: 1024})
				tm, err := team.New(membersOf(near, 1), &team.Config{Distribution: d})
				require.NoError(t, err)
				defer tm.Close()
				rule := c.hash
				if d == team.HyperVPort {
					rule = c.hyper
				}
				used := map[int]bool{}
				for v := range 8 {
					pin := tm.PinOf(vnicOf(v))
					for i := range 32 {
						f := frameOf(c.dst, vnicOf(v), c.body(i)...)
						at := where(t, tm, []*ports.Frame{f})[0]
						require.Equal(t, vnicOf(v), ports.MAC(f.Head()[6:]), "what is lent is not changed")
						b := ports.NewBatch(4)
						require.NoError(t, far[at].Rx(0).Recv(b))
						require.Equal(t, 1, b.Len())
						src := ports.MAC(b.Frames()[0].Head()[6:])
						b.Reset()
						far[at].Rx(0).Release()

						own := ports.MAC{2, 0, 0, 0, 1, byte(at)}
						switch rule {
						case pinned:
							require.Equal(t, pin, at)
						case reported:
							require.Equal(t, 0, at)
						}
						if at == pin {
							require.Equal(t, vnicOf(v), src)
						} else {
							require.Equal(t, own, src)
						}
						used[at] = true
					}
				}
				switch {
				case rule == reported, d == team.AddressHash && rule == pinned:
					require.Len(t, used, 1)
				default:
					require.Len(t, used, 4)
				}
				require.Equal(t, d == team.AddressHash, tm.PinOf(vnicOf(0))+tm.PinOf(vnicOf(1))+tm.PinOf(vnicOf(2)) == 0)
			})
		}
	}
}

// In the other modes nothing is rewritten, and any member takes anything.
func TestAggregationChangesNoAddress(t *testing.T) {
	near, far := pipes(t, 4, &ports.PipeConfig{Depth: 1024})
	tm, err := team.New(membersOf(near, 1), &team.Config{Mode: team.Static, Distribution: team.AddressHash})
	require.NoError(t, err)
	defer tm.Close()
	b := ports.NewBatch(64)
	flows := flowFrames(64)
	where(t, tm, flows)
	for i := range far {
		require.NoError(t, far[i].Rx(0).Recv(b))
		require.NotZero(t, b.Len())
		for _, f := range b.Frames() {
			require.EqualValues(t, 2, f.Head()[10])
		}
		b.Reset()
		far[i].Rx(0).Release()
		for _, dst := range []ports.MAC{ports.Broadcast, hostOf(7), vnicOf(0)} {
			_, err := far[i].Tx(0).Send([]*ports.Frame{frameOf(dst, hostOf(1), 0x88, 0xb5)})
			require.NoError(t, err)
		}
	}
	require.NoError(t, tm.Rx(0).Recv(b))
	require.Equal(t, 12, b.Len())
}

func TestTeamAddressMovesWithThePrimary(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		near, far := pipes(t, 2, nil)
		tm, err := team.New(membersOf(near, 1), &team.Config{Distribution: team.AddressHash, UpDelay: -1})
		require.NoError(t, err)
		defer tm.Close()
		first, second := ports.MAC{2, 0, 0, 0, 1, 0}, ports.MAC{2, 0, 0, 0, 1, 1}
		require.Equal(t, first, tm.Info().MAC)
		sources := func() (at [2]map[ports.MAC]int) {
			b := ports.NewBatch(256)
			for i := range 64 {
				f := udpFrame(first, hostOf(1), i, 60) // of the host itself
				_, err := tm.Tx(0).Send([]*ports.Frame{f, frameOf(ports.Broadcast, first, arp...)})
				require.NoError(t, err)
			}
			for i := range far {
				at[i] = map[ports.MAC]int{}
				b.Reset()
				require.NoError(t, far[i].Rx(0).Recv(b))
				for _, f := range b.Frames() {
					at[i][ports.MAC(f.Head()[6:])]++
				}
				b.Reset()
				far[i].Rx(0).Release()
			}
			return at
		}
		at := sources()
		require.Len(t, at[0], 1)
		require.Greater(t, at[0][first], 64)
		require.Len(t, at[1], 1)
		require.NotZero(t, at[1][second])

		near[0].SetLink(false)
		synctest.Wait()
		at = sources()
		require.Empty(t, at[0])
		require.Greater(t, at[1][first], 64)
		require.Equal(t, first, tm.Info().MAC)
		near[0].SetLink(true)
		synctest.Wait()
		time.Sleep(10 * time.Millisecond)
		sources()
		time.Sleep(10 * time.Millisecond)
		at = sources()
		require.Len(t, at[0], 1)
		require.Greater(t, at[0][first], 64)
		require.Len(t, at[1], 1)
		require.NotZero(t, at[1][second])
	})
}

func TestMovesAreAnnounced(t *testing.T) {
	for _, d := range []team.Distribution{team.HyperVPort, team.AddressHash, team.Dynamic} {
		t.Run(d.String(), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				w := newWorld(t, 3, &team.Config{Distribution: d, UpDelay: -1})
				var frames []*ports.Frame
				for v := range 9 {
					f := frameOf(ports.Broadcast, vnicOf(v), arp...)
					f.VLAN = ports.Tag{TPID: ports.TPID8021Q, TCI: 5<<13 | uint16(100+v)}
					frames = append(frames, f)
				}
				_, err := w.Tx(0).Send(frames)
				require.NoError(t, err)
				w.carry(0)
				w.carry(1)
				w.carry(2)
				require.Equal(t, 9, w.Stats().VNICs)
				pinned := map[int]int{}
				for v := range 9 {
					pinned[w.PinOf(vnicOf(v))]++
				}
				w.onWire = func(port int, f *ports.Frame) {
					v := int(f.Head()[11])
					require.Equal(t, vnicOf(v), ports.MAC(f.Head()[6:]))
					require.Equal(t, w.PinOf(vnicOf(v)), port)
					require.Equal(t, uint16(100+v), f.VLAN.VID())
					require.Equal(t, []byte{0x80, 0x35, 0, 1, 8, 0, 6, 4, 0, 3}, f.Head()[12:22])
				}
				w.pull(0)
				w.carry(1)
				w.carry(2)
				require.Len(t, w.rarps, pinned[0])
				for v := range 9 {
					require.Equal(t, w.PinOf(vnicOf(v)), w.fdb[vnicOf(v)])
				}
				time.Sleep(time.Second)
				w.settle()
				for _, n := range w.rarps {
					require.Equal(t, 3, n)
				}
				w.plug(0)
				w.settle()
				for v := range 9 {
					require.Equal(t, w.PinOf(vnicOf(v)), w.fdb[vnicOf(v)])
				}

				// Who is not heard of for long is not announced, nor who is heard of elsewhere.
				w.onWire = nil
				for range 200 {
					time.Sleep(time.Second)
					w.settle()
				}
				elsewhere := frameOf(hostOf(9), vnicOf(3), 0x88, 0xb5)
				elsewhere.VLAN = ports.Tag{TPID: ports.TPID8021Q, TCI: 103}
				w.forward(outside, elsewhere)
				w.settle()
				require.Equal(t, 8, w.Stats().VNICs)
				w.Forget(vnicOf(4))
				require.Equal(t, 7, w.Stats().VNICs)
				time.Sleep(101 * time.Second)
				require.Zero(t, w.Stats().VNICs)
			})
		})
	}
}

func TestReflectionsAreTakenForAMoment(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		near, far := pipes(t, 2, nil)
		tm, err := team.New(membersOf(near, 1), &team.Config{Distribution: team.AddressHash})
		require.NoError(t, err)
		defer tm.Close()
		f := frameOf(ports.Broadcast, vnicOf(1), arp...)
		back := func() (n int) {
			for i := range far {
				_, err := far[i].Tx(0).Send([]*ports.Frame{f})
				require.NoError(t, err)
			}
			return drain(ports.NewBatch(8), tm.Rx(0))
		}
		where(t, tm, []*ports.Frame{f})
		require.Zero(t, back())
		time.Sleep(900 * time.Millisecond)
		require.Zero(t, back())
		time.Sleep(400 * time.Millisecond)
		require.Equal(t, 1, back(), "the guest has been moved to another host")
		where(t, tm, []*ports.Frame{f})
		require.Zero(t, back())
		tm.Forget(vnicOf(1))
		require.Equal(t, 1, back())
	})
}

func TestFlowsSpreadEvenly(t *testing.T) {
	for _, d := range []team.Distribution{team.AddressHash, team.Dynamic} {
		for _, mode := range []team.Mode{team.SwitchIndependent, team.Static} {
			t.Run(fmt.Sprintf("%v, %v", mode, d), func(t *testing.T) {
				inBubble(t, func(t *testing.T) {
					const flows, members = 10_000, 4
					near, far := pipes(t, members, nil)
					tm, err := team.New(membersOf(near, 1), &team.Config{Mode: mode, Distribution: d})
					require.NoError(t, err)
					defer tm.Close()
					rnd := rand.New(rand.NewPCG(4, 2))
					b := ports.NewBatch(64)
					for range flows {
						f := udpFrame(vnicOf(rnd.IntN(8)), hostOf(rnd.IntN(8)), rnd.IntN(1<<30), 60)
						rnd32 := rnd.Uint32()
						binary.BigEndian.PutUint32(f.Head()[26:], rnd32)
						_, err := tm.Tx(0).Send([]*ports.Frame{f})
						require.NoError(t, err)
						for i := range far {
							drain(b, far[i].Rx(0))
						}
						time.Sleep(10 * time.Microsecond)
					}
					for _, m := range tm.Stats().Members {
						t.Logf("%s: %d flows, %+.1f %%", m.Name, m.TxFrames, 100*(float64(m.TxFrames)/flows*members-1))
						require.InEpsilon(t, flows/members, m.TxFrames, 0.05)
					}
				})
			})
		}
	}
}

// One flow has as much traffic as half of all members can bear; the others make room for it.
func TestElephantAmongMice(t *testing.T) {
	for _, d := range []team.Distribution{team.Dynamic, team.AddressHash} {
		t.Run(d.String(), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				near, far := pipes(t, 4, &ports.PipeConfig{Depth: 1024})
				tm, err := team.New(membersOf(near, 1), &team.Config{Mode: team.Static, Distribution: d})
				require.NoError(t, err)
				defer tm.Close()
				mice := flowFrames(300)
				elephant := udpFrame(vnicOf(0), hostOf(77), 1<<20, 1500)
				rnd := rand.New(rand.NewPCG(1, 1))
				b := ports.NewBatch(64)
				last := map[int]int{}
				run := func(d time.Duration) (share []float64, seen float64) {
					before := tm.Stats().Members
					for end := time.Now().Add(d); time.Now().Before(end); {
						_, err := tm.Tx(0).Send([]*ports.Frame{elephant})
						require.NoError(t, err)
						for range 12 {
							f := mice[rnd.IntN(len(mice))]
							numbered(f, flowOf(f), last[-1-flowOf(f)]+1)
							last[-1-flowOf(f)]++
							_, err := tm.Tx(0).Send([]*ports.Frame{f})
							require.NoError(t, err)
						}
						for i := range far {
							b.Reset()
							require.NoError(t, far[i].Rx(0).Recv(b))
							for _, f := range b.Frames() {
								if f.Len() < 1500 {
									if numberOf(f) <= last[flowOf(f)] {
										t.Fatalf("frame %d of mouse %d arrived after frame %d", numberOf(f), flowOf(f), last[flowOf(f)])
									}
									last[flowOf(f)] = numberOf(f)
								}
							}
							b.Reset()
							far[i].Rx(0).Release()
						}
						time.Sleep(100 * time.Microsecond)
					}
					var sum, top float64
					for i, m := range tm.Stats().Members {
						n := float64(m.TxBytes - before[i].TxBytes)
						share = append(share, n)
						sum += n
					}
					for i := range share {
						share[i] /= sum
						top = max(top, share[i])
					}
					return share, top
				}
				share, top := run(15 * time.Millisecond)
				t.Logf("at first %.3f", share)
				require.Greater(t, top, 0.6)
				run(300 * time.Millisecond)
				share, top = run(500 * time.Millisecond)
				t.Logf("then %.3f, %d buckets moved", share, tm.Stats().Moved)
				if d == team.Dynamic {
					require.Less(t, top, 0.54) // the elephant has 53 %, and is alone now
					for _, s := range share {
						require.Greater(t, s, 0.14)
					}
				} else {
					require.Greater(t, top, 0.6)
				}
			})
		})
	}
}
