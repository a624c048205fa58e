package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/hvswitch/hvswitch/vswitch"
	"github.com/hvswitch/hvswitch/vswitch/capture"
	"github.com/hvswitch/hvswitch/vswitch/extension"
)

// recording is a file of what crosses the provider network.
type recording struct {
	file    *os.File
	capture *capture.Capture
	stop    func() // nil before the start
}

// recordingBuffer is for a writer that a busy computer lets wait.
const recordingBuffer = 64 << 20

func newRecording(name string) (*recording, error) {
	file, err := os.Create(name)
	if err != nil {
		return nil, errors.Unwrap(err) // without the name, which the caller says
	}
	r := &recording{file: file}
	r.capture, err = capture.New(file, &capture.Config{
		Filter:  capture.Filter{Directions: []extension.Direction{extension.Ingress}}, // each frame once: as it comes
		SnapLen: capture.MaxSnapLen,
		Buffer:  recordingBuffer,
	})
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return r, nil
}

// start records what comes to the switches of a host.
func (r *recording) start(h *vswitch.Host) (err error) {
	r.stop, err = h.Observe("recording", r.capture)
	return err
}

// finish closes the file and says what is in it.
func (r *recording) finish(w io.Writer) error {
	if r.stop != nil {
		r.stop()
	}
	if err := errors.Join(r.capture.Close(), r.file.Close()); err != nil {
		return err
	}
	s := r.capture.Stats()
	fmt.Fprintf(w, "\n%s: %d frames of the provider network, %d lost\n", r.file.Name(), s.Written, s.Lost)
	return nil
}
