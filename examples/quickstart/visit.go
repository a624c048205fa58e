package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/hvswitch/hvswitch/examples/internal/guest"
	"github.com/hvswitch/hvswitch/ports"
	"github.com/hvswitch/hvswitch/vswitch"
)

// visit is what one guest got from another.
type visit struct {
	from, to string
	rtt      time.Duration // of a ping
	page     int           // bytes
	took     time.Duration // to fetch the page
	err      error
}

// patience is what a guest waits for an answer of another.
const patience = 5 * time.Second

// visitAll lets every guest visit every other.
func (l *lab) visitAll(ctx context.Context) (all []visit) {
	for _, from := range l.guests {
		for _, to := range l.guests {
			if from != to {
				all = append(all, visitOne(ctx, from, to))
			}
		}
	}
	return all
}

func visitOne(ctx context.Context, from, to *guest.Guest) (v visit) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	v.from, v.to = from.Name(), to.Name()
	if v.rtt, v.err = from.Ping(ctx, to.Addr()); v.err != nil {
		return v
	}
	start := time.Now()
	v.page, v.err = fetch(ctx, from, to)
	v.took = time.Since(start)
	return v
}

// fetch gets the page of a guest and returns its length.
func fetch(ctx context.Context, from, to *guest.Guest) (int, error) {
	browser := &http.Client{Transport: &http.Transport{DialContext: from.DialContext}}
	defer browser.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+to.Addr().String(), nil)
	if err != nil {
		return 0, err
	}
	resp, err := browser.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return len(body), err
	case string(body) != page(to.Name()):
		return len(body), fmt.Errorf("%s got %q, %d bytes that are not the page of %s", from.Name(), resp.Status, len(body), to.Name())
	}
	return len(body), nil
}

// forge sends a frame in the name of the first guest from the intruder's vNIC. The switch must drop
// it, or replies for that guest would go to the intruder from then on.
func (l *lab) forge(ctx context.Context) error {
	victim, other := l.guests[0].MAC(), l.guests[1].MAC()
	frame := make([]byte, 60)
	copy(frame, other[:])
	copy(frame[6:], victim[:])
	frame[12], frame[13] = 0x88, 0xb5 // EtherType for experiments, IEEE 802

	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := l.intruder.WriteFrame(ctx, frame); err != nil {
		return err
	}
	for {
		if l.host.VNIC(l.intruder.Info().Name).Stats().Drops[vswitch.DropSpoofedSource] == 1 {
			return nil
		}
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("a frame with the forged source %v was not dropped", ports.MAC(victim))
		}
	}
}
