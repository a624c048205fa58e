// Package store distributes the policy of virtual networks to hosts: subnets, lookup records and customer
// routes, as they change, to each host what concerns the networks it has VMs in.
//
// Store is the contract, Memory the store of a single process, package storetest the conformance suite. A
// Follower keeps the policy of an engine that of a store:
//
//	s := store.NewMemory()
//	f := store.NewFollower(s, engine)
//	f.SetScope(red)
//	go f.Run(ctx)
//	revision, err := s.Commit(ctx, changes)
//
// When the store is lost, forwarding goes on with what is known; when it is back, the follower takes a
// snapshot and goes on from there without a gap.
package store
