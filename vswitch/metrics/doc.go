// Package metrics exports what a vswitch.Host counts, and the limits of what it holds, to Prometheus.
//
//	prometheus.MustRegister(metrics.NewCollector(host, nil))
//
// Every scrape reads the counters at that moment; nothing runs or is stored in between. Any number of
// hosts may be registered at once, as long as their names differ: the label host is on every series.
//
// # Series
//
// Of the host: hvswitch_host_mac_pool_addresses, hvswitch_host_mac_pool_used_addresses.
//
// Of each switch, with the label switch: hvswitch_switch_ports, hvswitch_switch_flooded_frames_total,
// hvswitch_switch_flooded_unknown_frames_total, hvswitch_switch_addresses,
// hvswitch_switch_learned_addresses_limit, hvswitch_switch_addresses_learned_total,
// hvswitch_switch_addresses_moved_total, hvswitch_switch_address_moves_damped_total,
// hvswitch_switch_addresses_evicted_total, hvswitch_switch_addresses_aged_total.
//
// Of each extension of a switch, and each capture of the host there, with the labels switch and
// extension: hvswitch_extension_disabled, hvswitch_extension_failed,
// hvswitch_extension_dropped_frames_total.
//
// Of each class of an uplink whose bandwidth is divided (vswitch.QoSConfig), with the labels switch and class, which is
// a vNIC with a minimum or "default": hvswitch_class_queued_frames, hvswitch_class_queued_bytes,
// hvswitch_class_transmit_frames_total, hvswitch_class_transmit_bytes_total, hvswitch_class_delay_seconds_total,
// hvswitch_class_dropped_frames_total.
//
// Of each vNIC and NIC, with the labels switch and port: hvswitch_port_connected, hvswitch_port_link_up
// and, where it is known, hvswitch_port_link_speed_bytes_per_second, hvswitch_port_receive_queues,
// hvswitch_port_transmit_queues, hvswitch_port_mtu_bytes, hvswitch_port_receive_frames_total,
// hvswitch_port_receive_bytes_total, hvswitch_port_transmit_frames_total,
// hvswitch_port_transmit_bytes_total, and with the label reason, the words of vswitch.DropReason,
// hvswitch_port_dropped_frames_total. Directions are the switch's. Of vNICs
// that have such a limit also hvswitch_port_learned_addresses_limit, hvswitch_port_ip_addresses_limit and
// hvswitch_port_storm_limit_frames_per_second, and of those with a maximum bandwidth
// hvswitch_port_maximum_bandwidth_bytes_per_second and hvswitch_port_pauses_total.
//
// Of each vNIC with an ACL, with the labels switch and port: hvswitch_acl_connections,
// hvswitch_acl_connections_limit, hvswitch_acl_connections_created_total,
// hvswitch_acl_connections_expired_total, hvswitch_acl_connections_evicted_total,
// hvswitch_acl_connections_refused_total, hvswitch_acl_datagrams_evicted_total. Of each meter of the ACL,
// with the labels rule (its name), side, address and direction (the VM's) too:
// hvswitch_acl_meter_frames_total, hvswitch_acl_meter_bytes_total.
//
// # Labels
//
// The label switch of a port is the switch that its vNIC names, whether that exists or not, or the
// one whose uplink the NIC is; it is empty without. A label is the name as it is; what is not UTF-8 in
// it, and U+FFFD itself, becomes U+FFFD and two hexadecimal digits (00 for U+FFFD), so different names
// stay different.
//
// # Cost
//
// A port has 5 series and its limits, one for each reason that a frame can be dropped for (38), 7 with an
// ACL, and up to 4 for each meter. 10,000 ports without ACL are 430,000 series and 43 MB of text, with
// Config.SparseDrops 50,000 series and 4 MB.
//
// Workers may wait for three locks of those that a scrape takes: that of the forwarding database, taken once for
// each switch to read a number, that of an uplink whose bandwidth is divided, taken to copy the counts of its classes,
// and that of the connections of a vNIC with an ACL, taken to copy its
// counts and its meters. No lock is held while samples are sent.
package metrics
