package main

import (
	"fmt"
	"syscall"
)

// descriptorsWanted is room for the crowds on both sides; daemons inherit the limit.
const descriptorsWanted = 65_536

// raiseDescriptors lifts the soft limit, and the hard one where that is allowed. Where it stays too low a crowd fails with its own error.
func raiseDescriptors() error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	lifted := syscall.Rlimit{Cur: max(limit.Cur, descriptorsWanted), Max: max(limit.Max, descriptorsWanted)}
	if syscall.Setrlimit(syscall.RLIMIT_NOFILE, &lifted) == nil {
		return nil
	}
	// Not root. Setting it also tells the Go runtime that children are to have it.
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: limit.Max, Max: limit.Max}); err != nil {
		return fmt.Errorf("RLIMIT_NOFILE: %w", err)
	}
	return nil
}
