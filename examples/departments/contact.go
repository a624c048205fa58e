package main

import (
	"context"
	"fmt"
	"sync"
	"time"
)

const (
	// atOnce is the number of contacts that are tried at the same time.
	atOnce = 32

	// oneTry is how long one ping or connection may take before the next is tried. A guest gives
	// up asking for a MAC after 3 s.
	oneTry = 4 * time.Second

	// patienceIfNot is what a machine waits for an answer that must not come. It is short, as a
	// request that arrives late is noticed at the card of the other.
	patienceIfNot = 400 * time.Millisecond
)

// contact is what one machine got from another.
type contact struct {
	from, to  string
	required  bool
	ping, tcp error // nil: answered
	heard     bool  // a frame from the one arrived at the card of the other
}

// meetAll lets every machine meet every other: contacts[i][j] is that of machine i with machine j.
func (l *lab) meetAll(ctx context.Context, r requirement) (contacts [][]contact) {
	var all sync.WaitGroup
	room := make(chan struct{}, atOnce)
	for i, from := range l.machines {
		contacts = append(contacts, make([]contact, len(l.machines)))
		for j, to := range l.machines {
			c := &contacts[i][j]
			c.from, c.to, c.required = from.Name(), to.Name(), r.reach(from.Name(), to.Name())
			if i == j {
				continue
			}
			room <- struct{}{}
			all.Go(func() {
				c.meet(ctx, from, to, r.within)
				<-room
			})
		}
	}
	all.Wait()
	for i, from := range l.machines {
		for j, to := range l.machines {
			contacts[i][j].heard = to.card.heard(from.MAC())
		}
	}
	return contacts
}

// meet tries both ways of contact at once.
func (c *contact) meet(ctx context.Context, from, to *machine, patience time.Duration) {
	if !c.required {
		patience = patienceIfNot
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var both sync.WaitGroup
	both.Go(func() {
		c.ping = persist(ctx, func(ctx context.Context) error {
			_, err := from.Ping(ctx, to.Addr())
			return err
		})
	})
	both.Go(func() {
		c.tcp = persist(ctx, func(ctx context.Context) error { return from.greet(ctx, to) })
	})
	both.Wait()
}

// persist tries until it works or ctx ends.
func persist(ctx context.Context, try func(context.Context) error) error {
	for {
		once, cancel := context.WithTimeout(ctx, oneTry)
		err := try(once)
		if err != nil {
			<-once.Done() // not again at once, whatever the reason
		}
		cancel()
		if err == nil || ctx.Err() != nil {
			return err
		}
	}
}

// self reports whether it is the contact of a machine with itself, which was not tried.
func (c *contact) self() bool { return c.from == c.to }

// err tells the difference from what is required.
func (c *contact) err() error {
	switch {
	case c.self():
		return nil
	case c.required && c.ping != nil:
		return fmt.Errorf("%s must reach %s: %w", c.from, c.to, c.ping)
	case c.required && c.tcp != nil:
		return fmt.Errorf("%s must reach %s: TCP: %w", c.from, c.to, c.tcp)
	case !c.required && c.ping == nil:
		return fmt.Errorf("%s must not reach %s: ping was answered", c.from, c.to)
	case !c.required && c.tcp == nil:
		return fmt.Errorf("%s must not reach %s: TCP connected", c.from, c.to)
	case !c.required && c.heard:
		return fmt.Errorf("%s must not reach %s: frames arrived", c.from, c.to)
	}
	return nil
}
