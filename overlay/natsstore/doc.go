// Package natsstore is a store.Store on NATS JetStream: of one process, with a server inside it, or of a
// data centre, on a cluster that is there.
//
//	s, err := natsstore.Open(ctx, nil)                                             // embedded, in memory
//	s, err := natsstore.Open(ctx, &natsstore.Options{Dir: "/var/lib/policy"})      // embedded, in files
//	s, err := natsstore.Open(ctx, &natsstore.Options{URL: "nats://a:4222,nats://b:4222"})
//
// # Layout
//
// A stream is the log: each transaction is one message, or several in a row if it is large, and its
// revision is the sequence number of the last of them. Who commits says which number it expects, so that
// of two transactions made from the same state one is made anew; a process that loses twice asks the
// others to wait. The subject is that of the virtual network concerned, or a common one if there are
// several: a server sends each process the networks that it follows and the transactions of more than one
// network, and no others. A transaction also names the one before in each of its networks, so that
// whoever has missed one knows.
//
// A key-value bucket holds snapshots: under d.<network> the policy of a network and the revision it had
// then, and under c.<network> what is too long for one message. A key for each object would not do, as a
// transaction changes several of them at once. Stores that commit write the snapshots, of the networks
// that have changed; then the log is cut behind the ones before the last. A process that starts takes
// the snapshots of its networks and what the log has since.
//
// # Cost
//
// A process has one connection and one consumer, however many watchers. It holds the networks that its
// watchers follow; if they are more than 64, or once it commits, all of them. A network that has been
// removed leaves a snapshot of some 40 bytes.
//
// # Failure
//
// While the server is away watchers wait, and go on where they were. When the log no longer has what they
// need, or the store was restored from an older copy, they get a snapshot; where revisions go back, they
// end with ErrRestored and are to be made anew, as store.Follower does. Messages that are no transactions,
// or were not made from the state they stand behind, are refused by all alike, and logged.
package natsstore
