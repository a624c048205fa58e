module github.com/hvswitch/hvswitch/internal/bench

go 1.26.0

require (
	github.com/containers/gvisor-tap-vsock v0.8.9
	github.com/hvswitch/hvswitch v0.0.0
	github.com/sirupsen/logrus v1.9.4
	golang.org/x/sys v0.49.0
	gvisor.dev/gvisor v0.0.0-20240916094835-a174eb65023f
)

require (
	github.com/apparentlymart/go-cidr v1.1.1 // indirect
	github.com/google/btree v1.1.2 // indirect
	github.com/google/gopacket v1.1.19 // indirect
	github.com/mdlayher/packet v1.2.0 // indirect
	github.com/mdlayher/socket v0.7.0 // indirect
	golang.org/x/net v0.59.0 // indirect
	golang.org/x/sync v0.23.0 // indirect
	golang.org/x/time v0.5.0 // indirect
)

replace github.com/hvswitch/hvswitch => ../../
