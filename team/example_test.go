package team_test

import (
	"fmt"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/team"
)

// Two cables in memory take the place of two NICs.
func Example() {
	var members []team.Member
	for i, name := range []string{"nic0", "nic1"} {
		near, _, err := ports.Pipe(&ports.PipeConfig{Name: name, MAC: ports.MAC{2, 0, 0, 0, 0, byte(i)}, Speed: 10e9})
		if err != nil {
			panic(err)
		}
		members = append(members, team.Member{Backend: near})
	}
	uplink, err := team.New(members, &team.Config{Name: "team0"})
	if err != nil {
		panic(err)
	}
	defer uplink.Close()
	fmt.Println(uplink.Info().MAC, uplink.Link().Speed/1e9, "Gbit/s")

	if _, err := uplink.Remove("nic1"); err != nil {
		panic(err)
	}
	fmt.Println(uplink.Info().MAC, uplink.Link().Speed/1e9, "Gbit/s")
	_, err = uplink.Remove("nic0")
	fmt.Println(err)
	// Output:
	// 02:00:00:00:00:00 20 Gbit/s
	// 02:00:00:00:00:00 10 Gbit/s
	// team "team0": member "nic0" is the only one
}
