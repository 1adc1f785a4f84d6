//go:build !unix

package service

import (
	"context"
	"errors"
)

// ReadEnvironment gives NAME=value lines of an environment file.
type ReadEnvironment func(path string) ([]string, error)

// Supervisor runs units of a root; on this system it cannot.
type Supervisor struct {
	Root string
	Read ReadEnvironment
}

var errNotHere = errors.New("services can be supervised on Unix systems only")

// Run refuses.
func (Supervisor) Run(context.Context, string) error { return errNotHere }

// Exec has units run by supervisors of ours; on this system it refuses.
type Exec struct{ Root, Self string }

// Name is exec.
func (Exec) Name() string { return "exec" }

// Active refuses.
func (Exec) Active(context.Context, string) (bool, error) { return false, errNotHere }

// Enabled refuses.
func (Exec) Enabled(context.Context, string) (bool, error) { return false, errNotHere }

// Start refuses.
func (Exec) Start(context.Context, string) error { return errNotHere }

// Stop refuses.
func (Exec) Stop(context.Context, string) error { return errNotHere }

// Enable refuses.
func (Exec) Enable(context.Context, string) error { return errNotHere }

// Disable refuses.
func (Exec) Disable(context.Context, string) error { return errNotHere }

// Signal refuses.
func (Exec) Signal(context.Context, string) error { return errNotHere }

// Reread refuses.
func (Exec) Reread(context.Context) error { return errNotHere }

// ByHand is nothing.
func (Exec) ByHand(string, string) string { return "" }
