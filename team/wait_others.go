//go:build !linux

package team

import "errors"

type fdSet struct{}

var errNoSet = errors.New("has a descriptor: teams wait for descriptors on Linux only")

func newFDSet() (*fdSet, error)  { return nil, errNoSet }
func (s *fdSet) descriptor() int { return -1 }
func (s *fdSet) add(int) error   { return errNoSet }
func (s *fdSet) remove(int)      {}
func (s *fdSet) wake()           {}
func (s *fdSet) hush()           {}
func (s *fdSet) close()          {}
