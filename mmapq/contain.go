package mmapq

import (
	"fmt"
	"runtime/debug"
)

// A page of a mapping can fail under a load or store: the disk reports an error for it, or somebody cut the file short. Unless the goroutine
// asked for a panic instead, that ends the process. Loops ask once for themselves; every other goroutine goes through contain.

// contain runs f and turns a fault of a mapping, or a broken invariant, into an error. Locks that f takes around mapped memory are given back
// by defer.
func contain(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = faultError(r)
		}
	}()
	return f()
}

// Contain is contain for goroutines that work on the store's behalf: what went wrong ends publishing, since nobody knows what was left half
// done. An error that f returns is only passed on.
func (st *Store) Contain(f func() error) error {
	var own error
	err := contain(func() error {
		own = f()
		return nil
	})
	if err != nil {
		st.fail(err)
		return err
	}
	return own
}

// faultError says what a panic was.
func faultError(r any) error {
	type addressed interface{ Addr() uintptr }
	if f, ok := r.(addressed); ok {
		return fmt.Errorf("mapped memory failed at %#x", f.Addr())
	}
	return bugError{fmt.Errorf("BUG: %v", r), debug.Stack()}
}

type bugError struct {
	error
	stack []byte
}
