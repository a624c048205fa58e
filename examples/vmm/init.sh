#!/bin/busybox sh
# The first program of a guest. It takes its address from the kernel command line, says that it is ready, and runs each
# line that comes by the console.
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
stty -echo

# load starts the driver of the network card and gives the card its address.
load() {
	for m in virtio_ring virtio virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci failover net_failover virtio_net; do
		[ -e /sys/module/$m ] || insmod /lib/modules/$m.ko* || return
	done
	address=$(sed -n 's/.*vmm\.address=\([^ ]*\).*/\1/p' /proc/cmdline)
	echo 1 >/proc/sys/net/ipv4/conf/eth0/arp_notify # others hear at once of a card that comes up
	ip address add $address dev eth0 && ip link set eth0 up
}

# unload stops the driver, and with it the card.
unload() { rmmod virtio_net; }

# link waits until the card has its cable and says what it can do.
link() {
	until [ "$(cat /sys/class/net/eth0/carrier)" = 1 ]; do usleep 20000; done
	ethtool -k eth0
}

# watch pings somebody without end, in the background.
watch() { while :; do ping -i 0.1 $1; usleep 100000; done & }

ip link set lo up
load || exit # which the kernel takes for a reason to panic
iperf3 -s >/dev/null &
rtt &
echo "vmm: ready"
while read -r line; do
	eval "$line" 2>&1
	echo "vmm: exit $?"
done
