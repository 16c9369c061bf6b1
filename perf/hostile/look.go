package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/nsqloop/nsqloop/perf/daemon"
)

// state is what the broker holds at one moment.
type state struct {
	descriptors, goroutines int
	memory                  int64
}

// slack is how many descriptors and goroutines more than before are no leak: segments, connections of the rig itself, workers that wait.
const slack = 16

const settleTime = 30 * time.Second

func look(ctx context.Context, p *daemon.Process) (state, error) {
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.PID()))
	if err != nil {
		return state{}, err
	}
	memory, err := p.Memory()
	if err != nil {
		return state{}, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.HTTPAddr+"/debug/pprof/goroutine?debug=1", nil)
	if err != nil {
		return state{}, err
	}
	reply, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(request)
	if err != nil {
		return state{}, err
	}
	defer func() { _ = reply.Body.Close() }()
	text, err := io.ReadAll(reply.Body)
	if err != nil {
		return state{}, err
	}
	s := state{descriptors: len(files), memory: memory.Anon}
	if _, err := fmt.Sscanf(string(text), "goroutine profile: total %d", &s.goroutines); err != nil {
		return state{}, fmt.Errorf("/debug/pprof/goroutine begins with %.60q", text)
	}
	return s, nil
}

// settle waits until what the attack opened is closed. left is for the table.
func settle(ctx context.Context, p *daemon.Process, before state) (left string, err error) {
	for end := time.Now().Add(settleTime); ; time.Sleep(100 * time.Millisecond) {
		now, err := look(ctx, p)
		if err != nil {
			return "?", err
		}
		files, goroutines := now.descriptors-before.descriptors, now.goroutines-before.goroutines
		if files <= slack && goroutines <= slack {
			return "nothing", nil
		}
		if time.Now().After(end) || ctx.Err() != nil {
			left = fmt.Sprintf("%d descriptors, %d goroutines", files, goroutines)
			return left, fmt.Errorf("%s are left after %s", left, settleTime)
		}
	}
}

// watchMemory samples the broker's anonymous memory until the function it returns is called, which tells the largest.
func watchMemory(p *daemon.Process) func() int64 {
	quit := make(chan struct{})
	var most int64
	var watching sync.WaitGroup
	watching.Go(func() {
		for {
			if m, err := p.Memory(); err == nil { // a broker that is gone is noticed by others
				most = max(most, m.Anon)
			}
			select {
			case <-time.After(100 * time.Millisecond):
			case <-quit:
				return
			}
		}
	})
	return func() int64 {
		close(quit)
		watching.Wait()
		return most
	}
}

// panics looks for them in the log of the broker: one that is caught costs its client only, but is a fault all the same.
type panics struct {
	mu    sync.Mutex
	first string
}

func (p *panics) Write(line []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.first == "" && bytes.Contains(line, []byte("panic")) {
		p.first = string(bytes.TrimSpace(line))
	}
	return len(line), nil
}

// err is about the first one since the last call.
func (p *panics) err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.first == "" {
		return nil
	}
	err := fmt.Errorf("the broker's log has %q", p.first)
	p.first = ""
	return err
}
