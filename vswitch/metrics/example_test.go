package metrics_test

import (
	"bufio"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vswitch"
	"github.com/hvswitch/hvswitch/vswitch/metrics"
)

// A host whose counters Prometheus scrapes over HTTP.
func Example() {
	host, err := vswitch.NewHost(&vswitch.HostConfig{Name: "host1"})
	if err != nil {
		log.Fatal(err)
	}
	defer host.Close()
	if _, err := host.NewSwitch("lab", nil); err != nil {
		log.Fatal(err)
	}
	_, nic, err := ports.Pipe(nil)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := host.NewVNIC("vm1", nic, &vswitch.VNICConfig{Switch: "lab"}); err != nil {
		log.Fatal(err)
	}

	registry := prometheus.NewRegistry()
	registry.MustRegister(metrics.NewCollector(host, nil))
	server := httptest.NewServer(promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	defer server.Close()

	resp, err := http.Get(server.URL)
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "hvswitch_switch_learned") || strings.Contains(lines.Text(), "queue full") {
			fmt.Println(lines.Text())
		}
	}

	// Output:
	// hvswitch_port_dropped_frames_total{host="host1",port="vm1",reason="queue full",switch="lab"} 0
	// hvswitch_switch_learned_addresses_limit{host="host1",switch="lab"} 65536
}
