// Package toeplitz is the hash of receive side scaling (RSS) and its indirection table: which queue of a
// vNIC a flow belongs to.
//
// The hash is the one of Microsoft's RSS and of network adapters, so a guest that computes it, or that
// sets key and table, finds its flows where it expects them:
//
//	hash := toeplitz.New(toeplitz.DefaultKey)
//	queue := table.Queue(hash.Of(&h, head))
//
// See Microsoft, "RSS Hashing Functions" and "Verifying the RSS Hash Calculation" (Windows driver
// documentation), and OASIS virtio 1.2, section 5.1.6.4.3.
package toeplitz
