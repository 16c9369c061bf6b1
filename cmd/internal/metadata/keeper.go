package metadata

import (
	"errors"
	"sync"
	"syscall"
	"time"
)

// retryAfter is how long a failed write waits for the next attempt, unless a change comes first.
const retryAfter = 5 * time.Second

// Keeper writes the file whenever something changed. Changes that come while a write is on its way share the next one, so creating ten
// thousand topics does not write ten thousand files.
type Keeper struct {
	write   func() error
	failed  func(error)
	changed chan struct{} // capacity 1: a change is waiting
	quit    chan struct{}
	wg      sync.WaitGroup
}

// NewKeeper prepares a keeper. write is called by one goroutine at a time; failed is told about its errors.
func NewKeeper(write func() error, failed func(error)) *Keeper {
	return &Keeper{write: write, failed: failed, changed: make(chan struct{}, 1), quit: make(chan struct{})}
}

// Changed asks for a write and does not wait for it. Any goroutine, also before Start and after Stop.
func (k *Keeper) Changed() {
	select {
	case k.changed <- struct{}{}:
	default:
	}
}

// Start writes once, then with every change from now on. The error is that of the first write; a full disk is none, it is told and tried again.
func (k *Keeper) Start() error {
	select {
	case <-k.changed: // covered by the write that comes now
	default:
	}
	err := k.write()
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		k.failed(err)
	} else if err != nil {
		return err
	}
	k.wg.Go(func() { k.run(err != nil) })
	return nil
}

func (k *Keeper) run(again bool) {
	t := time.NewTimer(retryAfter)
	defer t.Stop()
	for {
		var retry <-chan time.Time
		if again {
			t.Reset(retryAfter)
			retry = t.C
		}
		select {
		case <-k.quit:
			return
		case <-retry:
		case <-k.changed:
		}
		err := k.write()
		if again = err != nil; again {
			k.failed(err)
		}
	}
}

// Stop ends the goroutine and writes once more.
func (k *Keeper) Stop() error {
	close(k.quit)
	k.wg.Wait()
	return k.write()
}
