package main

import (
	"context"
	"fmt"
	"os"
	"sync"

	"github.com/nsqloop/nsqloop/perf/load"
)

// What the broker does beside the samples: MPUB and consumption as fast as they go.
const (
	loadConns    = 2
	loadMessages = 200_000 // of one round
	loadSize     = 200
	loadBatch    = 200
	loadRDY      = 2500
)

// startLoad keeps the broker busy until the function it returns is called.
func startLoad(ctx context.Context, addr string) (quit func(), err error) {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	begun := make(chan error, 1)
	running.Go(func() {
		for round := 0; ctx.Err() == nil; round++ {
			err := loadRound(ctx, addr, begun)
			if ctx.Err() == nil && err != nil {
				fmt.Fprintln(os.Stderr, "timing: load:", err)
				return
			}
		}
	})
	stop := func() {
		cancel()
		running.Wait()
	}
	if err := <-begun; err != nil {
		stop()
		return nil, err
	}
	return stop, nil
}

func loadRound(ctx context.Context, addr string, begun chan<- error) error {
	tell := func(err error) error {
		select {
		case begun <- err:
		default: // only the first round is waited for
		}
		return err
	}
	consuming, err := load.Consumer{Addr: addr, Topic: "load", Channel: "c", Conns: loadConns, Messages: loadMessages, Size: loadSize, RDY: loadRDY}.Prepare(ctx)
	if err != nil {
		return tell(err)
	}
	defer consuming.Close()
	publishing, err := load.Publisher{Addr: addr, Topic: "load", Conns: loadConns, Messages: loadMessages, Size: loadSize, Batch: loadBatch, Window: 1}.Prepare(ctx)
	if err != nil {
		return tell(err)
	}
	defer publishing.Close()
	consumed := make(chan error, 1)
	go func() { consumed <- consuming.Run(ctx) }()
	_ = tell(nil)
	err = publishing.Run(ctx)
	if ended := <-consumed; err == nil {
		err = ended
	}
	return err
}
