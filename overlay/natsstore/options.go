package natsstore

import (
	"errors"
	"fmt"
	"log/slog"
	"regexp"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// Options say where a store is. All of them may be left out.
type Options struct {
	// URL is that of a cluster with JetStream, or several with commas between them. Without it there
	// is a server in the process.
	URL string

	// Connect are further options of the connection, such as nats.UserCredentials and nats.RootCAs.
	Connect []nats.Option

	// Dir is where the embedded server keeps its files; what Commit has returned is on the disk.
	// Without it the server keeps all in memory.
	Dir string

	// Listen is the address, such as "10.0.0.1:4222", by which other processes reach the embedded
	// server. Without it there is no listener. Whoever reaches the server can write the policy: see
	// Server.
	Listen string

	// Server changes the configuration of the embedded server before it starts: TLS, accounts, limits.
	Server func(*server.Options)

	// Name is that of the stream and of the bucket, of letters, digits, _ and -; empty means
	// "hvswitch". Policies with different names have nothing to do with each other.
	Name string

	// Replicas is on how many servers of a cluster a new stream and a new bucket are, 1 … 5; 0 means 1.
	Replicas int

	// SnapshotAfter is how many messages the log grows before the networks that have changed get new
	// snapshots; 0 means 4096. The log holds twice as many.
	SnapshotAfter int

	// Logger takes what goes wrong with the server; nil means none.
	Logger *slog.Logger
}

const (
	defaultName          = "hvswitch"
	defaultSnapshotAfter = 4096
)

var names = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// complete returns the options with the defaults.
func (o *Options) complete() (Options, error) {
	var c Options
	if o != nil {
		c = *o
	}
	if c.Name == "" {
		c.Name = defaultName
	}
	if c.Replicas == 0 {
		c.Replicas = 1
	}
	if c.SnapshotAfter == 0 {
		c.SnapshotAfter = defaultSnapshotAfter
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	switch {
	case !names.MatchString(c.Name):
		return c, fmt.Errorf("policy store: Name %.80q is not of letters, digits, _ and -", c.Name)
	case c.Replicas < 1 || c.Replicas > 5:
		return c, fmt.Errorf("policy store: Replicas %d is out of 1–5", c.Replicas)
	case c.SnapshotAfter < 0:
		return c, fmt.Errorf("policy store: SnapshotAfter %d is negative", c.SnapshotAfter)
	case c.URL != "" && (c.Dir != "" || c.Listen != "" || c.Server != nil):
		return c, errors.New("policy store: Dir, Listen and Server are for an embedded server, and URL is of another")
	}
	return c, nil
}
