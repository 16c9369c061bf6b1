package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/nsqloop/nsqloop/perf/daemon"
	"github.com/nsqloop/nsqloop/perf/load"
)

const (
	// statsChannels is how many channels there are, a hundred to a topic, with a client each.
	statsChannels = 10_000
	// statsReads is how many times the time of one is taken.
	statsReads = 5
	// pollEvery is the time between polls of /stats, scrapeEvery between those of /metrics; one that takes longer delays the next.
	pollEvery   = 100 * time.Millisecond
	scrapeEvery = time.Second
	// polledRate is messages per second published meanwhile.
	polledRate = 2000
	// polledTime is how long.
	polledTime = 5 * time.Second
)

// statsWorkload is a large /stats, and what polling it does to those who publish.
var statsWorkload = workload{
	name: "stats", title: "/stats of 10,000 channels and 10,000 clients",
	rows: []row{
		{name: "JSON, time of one", unit: "ms", floors: []floor{times(10)}},
		{name: "JSON, broker CPU of one", unit: "ms"},
		{name: "publish p99, polls go elsewhere", unit: "us"},
		{name: "publish p99, 10 polls a second", unit: "us"},
		{name: "ratio of the two", unit: "", floors: []floor{{limit: 1.5}}},
	},
	subjects: inMemoryOnly, otherRuns: 1, before: func(t *turn) error { return knownTopics(t.dir, t.count(statsChannels)/100+1, 100) },
	turn: watched("/stats?format=json", pollEvery),
}

// metricsWorkload is a large /metrics, and what scraping it does to those who publish.
var metricsWorkload = workload{
	name: "metrics", title: "/metrics of 10,000 channels and 10,000 clients",
	rows: []row{
		{name: "time of one", unit: "ms", floors: []floor{{limit: 200}}},
		{name: "broker CPU of one", unit: "ms"},
		{name: "publish p99, scrapes go elsewhere", unit: "us"},
		{name: "publish p99, one scrape a second", unit: "us"},
		{name: "ratio of the two", unit: "", floors: []floor{{limit: 1.5}}},
	},
	subjects:  func(o options) []subject { return []subject{o.oursWith(oursName)} },
	otherRuns: 1, before: func(t *turn) error { return knownTopics(t.dir, t.count(statsChannels)/100+1, 100) },
	turn: watched("/metrics", scrapeEvery),
}

// watched measures one answer of path, and publishing while path is read every so often.
func watched(path string, every time.Duration) func(context.Context, *turn) ([]sample, error) {
	return func(ctx context.Context, t *turn) ([]sample, error) { return watch(ctx, t, path, every) }
}

func watch(ctx context.Context, t *turn, path string, every time.Duration) (samples []sample, err error) {
	crowd, err := load.Subscribers{
		Addr: t.process.TCPAddr, Conns: t.count(statsChannels),
		Place: func(n int) (string, string) { return fmt.Sprintf("topic%d", n/100), fmt.Sprintf("channel%d", n%100) },
	}.Subscribe(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, crowd.Close()) }()
	target := "http://" + t.process.HTTPAddr + path
	var times []float64
	var text []byte
	before, err := t.process.CPU()
	if err != nil {
		return nil, err
	}
	for range statsReads {
		began := time.Now()
		if text, err = get(ctx, target); err != nil {
			return nil, err
		}
		times = append(times, float64(time.Since(began))/float64(time.Millisecond))
	}
	after, err := t.process.CPU()
	if err != nil {
		return nil, err
	}
	slices.Sort(times)
	elsewhere, stop, err := serveElsewhere(ctx, text)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	alone, err := t.publishPolled(ctx, elsewhere, every)
	if err != nil {
		return nil, err
	}
	polled, err := t.publishPolled(ctx, target, every)
	if err != nil {
		return nil, err
	}
	return plain(times[len(times)/2], float64(after-before)/statsReads/float64(time.Millisecond), alone, polled, polled/alone), nil
}

// serveElsewhere starts a server that answers with text.
func serveElsewhere(ctx context.Context, text []byte) (target string, stop func() error, err error) {
	dir, err := os.MkdirTemp("", "bench-stats-")
	if err != nil {
		return "", nil, err
	}
	file := filepath.Join(dir, "stats.json")
	path, err := os.Executable()
	if err == nil {
		err = os.WriteFile(file, text, 0o600)
	}
	if err != nil {
		return "", nil, errors.Join(err, os.RemoveAll(dir))
	}
	process, err := daemon.Start(ctx, daemon.Options{Path: path, DataPath: dir, Env: []string{roleVar + "=" + roleFile, fileVar + "=" + file}})
	if err != nil {
		return "", nil, errors.Join(err, os.RemoveAll(dir))
	}
	stop = func() error { return errors.Join(process.Kill(), os.RemoveAll(dir)) }
	return "http://" + process.HTTPAddr + "/", stop, nil
}

// publishPolled is the p99 of publishes in us, while somebody polls target.
func (t *turn) publishPolled(ctx context.Context, target string, every time.Duration) (float64, error) {
	messages := t.during(polledTime, polledRate)
	pacing, err := load.Pace{
		Addr: t.process.TCPAddr, Topic: "polled", Conns: 4, Rate: polledRate, Messages: messages, Size: t.options.size, Link: t.link, Skip: messages / 10,
	}.Prepare(ctx)
	if err != nil {
		return 0, err
	}
	defer pacing.Close()
	polling, stop := context.WithCancel(ctx)
	defer stop()
	err = together(
		measured{run: func(ctx context.Context) error { defer stop(); return pacing.Run(ctx) }},
		measured{run: func(context.Context) error { return poll(polling, target, every) }},
	).run(ctx)
	return quantile(pacing.Acknowledgements(), 99) / float64(time.Microsecond), err
}

// poll reads target every so often until ctx ends.
func poll(ctx context.Context, target string, every time.Duration) error {
	for due := time.Now(); ; due = due.Add(every) {
		if err := pause(ctx, time.Until(due)); err != nil {
			return nil
		}
		if _, err := get(ctx, target); err != nil {
			return ended(ctx, err)
		}
	}
}

// kept is a client with one kept connection for each server.
var kept = http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1, DisableCompression: true}}

func get(ctx context.Context, target string) (text []byte, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return nil, err
	}
	reply, err := kept.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, reply.Body.Close()) }()
	if reply.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", target, reply.Status)
	}
	return io.ReadAll(reply.Body)
}
