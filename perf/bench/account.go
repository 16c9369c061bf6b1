package main

import (
	"os"
	"time"

	"github.com/nsqloop/nsqloop/perf/daemon"
)

// account is what has been spent at one moment.
type account struct {
	broker    time.Duration // CPU of the daemon
	generator time.Duration // CPU of this process
	machine   time.Duration // all processors busy
}

// takeAccount reads the clocks; pid 0 is a daemon that has not started.
func takeAccount(pid int) (a account, err error) {
	if pid != 0 {
		if a.broker, err = daemon.CPU(pid); err != nil {
			return a, err
		}
	}
	if a.generator, err = daemon.CPU(os.Getpid()); err != nil {
		return a, err
	}
	a.machine, err = daemon.Busy()
	return a, err
}

// since is the sample of a pass of n messages that ran for took, between the account before and a. What the machine did beside the
// generator holds the broker's kernel threads (write-back, interrupts), and whatever else ran.
func (a account) since(before account, n int, took time.Duration) sample {
	others := (a.machine - before.machine) - (a.generator - before.generator)
	return sample{
		value: float64(a.broker-before.broker) / float64(n),
		busy:  max(0, float64(others)/float64(n)),
		rate:  float64(n) / took.Seconds(),
	}
}
