package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/hvswitch/hvswitch/vswitch/capture"
)

// target returns where to capture and what: the filter puts together what the interface, the settings
// and the user say. What two of them say is an error, even if they agree.
func (o *options) target() (v vmm, f capture.Filter, err error) {
	names, err := parsePort(o.port)
	if err != nil {
		return v, f, err
	}
	v = vmm{names[0], strings.Replace(o.sockets, "*", names[0], 1)}
	if len(names) == 3 {
		f.Switches, f.Ports = names[1:2], names[2:3]
	}
	text := f.String()
	if o.direction != "both" {
		text += " direction=" + o.direction
	}
	if o.dropped {
		text += " drop=any"
	}
	if f, err = capture.ParseFilter(text + " " + o.filter); err != nil {
		err = fmt.Errorf("capture filter, of the kind vlan=10 proto=tcp: %w", err)
	}
	return v, f, err
}

// record writes a capture to the fifo.
func (o *options) record() error {
	// Wireshark waits for the end of the fifo and then looks for errors. So it is opened first of all,
	// and left to end with the program, which says before what went wrong.
	fifo, err := os.OpenFile(o.fifo, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	v, filter, err := o.target()
	if err != nil {
		return err
	}
	conn, err := v.connect()
	var s *capture.Stream
	if err == nil {
		s, err = capture.Open(conn, &filter, o.snapLen)
	}
	if err == nil {
		conn.SetDeadline(time.Time{})
		err = transfer(fifo, s)
	}
	if err != nil {
		return fmt.Errorf("VMM %q: %w", v.name, err)
	}
	return nil
}

// transfer copies the stream to the fifo until a signal asks to stop or nobody reads the fifo any
// more, and closes the stream. That the stream ends before is an error.
func transfer(fifo *os.File, s *capture.Stream) error {
	defer s.Close()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	defer context.AfterFunc(ctx, func() {
		stop() // so that another signal ends the program
		s.Stop()
		// The frames so far and the statistics are still to come.
		fifo.SetWriteDeadline(time.Now().Add(patience))
		time.AfterFunc(patience, func() { s.Close() })
	})()
	go func() {
		if readerGone(fifo) {
			stop()
		}
	}()
	switch _, err := io.Copy(fifo, s); {
	case ctx.Err() != nil || errors.Is(err, syscall.EPIPE):
		return nil
	case err != nil:
		return err
	}
	return errors.New("it has ended the capture")
}
