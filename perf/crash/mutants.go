package main

import (
	"context"
	"errors"
	"fmt"
)

// mutants are the faults that nsqd can be built with: NSQLOOP_MUTANT selects one.
var mutants = []string{"ack-before-append", "forget-inflight"}

const (
	mutantVar   = "NSQLOOP_MUTANT"
	mutantDrain = 2 // kills between drains: a mutant is caught at the first drain that misses something
)

// catchMutants runs each mutant, which the ledger must find, after a control run of the same binary without one, which it must not blame.
func catchMutants(ctx context.Context, o options) error {
	o.drain = mutantDrain
	control := o
	control.rounds = 2 * mutantDrain
	if err := crash(ctx, control); err != nil {
		return fmt.Errorf("control run without a mutant: %w", err)
	}
	var failures []error
	for _, mutant := range mutants {
		o.env = []string{mutantVar + "=" + mutant}
		r, err := newRig(o)
		if err != nil {
			return err
		}
		err = r.loop(ctx)
		if r.daemon != nil {
			err = errors.Join(err, r.daemon.Kill())
		}
		var fault *faultError
		switch {
		case errors.As(err, &fault) && r.verdict != nil && r.verdict.Lost() > 0:
			fmt.Fprintf(o.out, "caught %s: %v\n", mutant, r.verdict)
		case err == nil:
			failures = append(failures, fmt.Errorf("%s was not caught in %d kills; again with -seed %d", mutant, o.rounds, o.seed))
		default:
			failures = append(failures, fmt.Errorf("%s: no message was lost, but: %w", mutant, err))
		}
		if err := r.remove(); err != nil {
			return err
		}
	}
	return errors.Join(failures...)
}
