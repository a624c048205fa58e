package vswitch

import "errors"

// Errors that a program decides on, for errors.Is. What is returned names the object concerned.
var (
	ErrClosed    = errors.New("closed")
	ErrExists    = errors.New("already exists")
	ErrNotFound  = errors.New("not found")
	ErrInUse     = errors.New("in use")
	ErrInvalid   = errors.New("invalid configuration")
	ErrExhausted = errors.New("exhausted")
)
