// Command statsbench measures what /stats costs on an nsqd with many channels and clients, beside any other nsqd.
//
//	go run ./perf/statsbench -peer PATH [-ours PATH] [-topics 100] [-channels 100] [-polls 20]
//
// Every channel has one consumer. Each form of /stats is polled one after the other on one connection; a figure is the median of a poll's
// duration, and the CPU time the daemon spent per poll.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/nsqloop/nsqloop/perf/client"
	"github.com/nsqloop/nsqloop/perf/daemon"
)

// forms are the questions that are measured.
var forms = []string{
	"format=json",
	"format=json&include_clients=false",
	"format=json&include_clients=false&include_mem=false&topic=topic0",
	"",
}

type options struct {
	topics, channels, polls int
}

func main() {
	var o options
	ours := flag.String("ours", "", "our nsqd; without one, cmd/nsqd is built")
	peer := flag.String("peer", "", "the nsqd to compare with; without one ours is measured alone")
	flag.IntVar(&o.topics, "topics", 100, "topics")
	flag.IntVar(&o.channels, "channels", 100, "channels of each topic, each with one consumer")
	flag.IntVar(&o.polls, "polls", 20, "polls of each form")
	flag.Parse()
	if err := run(context.Background(), os.Stdout, *ours, *peer, o); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, out io.Writer, ours, peer string, o options) (err error) {
	dir, err := os.MkdirTemp("", "statsbench-")
	if err != nil {
		return err
	}
	defer func() {
		if removeErr := os.RemoveAll(dir); err == nil {
			err = removeErr
		}
	}()
	if ours == "" {
		ours = filepath.Join(dir, "nsqd")
		if err := daemon.Build(ctx, ours); err != nil {
			return err
		}
	}
	fmt.Fprintf(out, "%d channels with a consumer each, %d polls\n\n| nsqd | /stats? | bytes | ms | CPU ms |\n| --- | --- | ---: | ---: | ---: |\n",
		o.topics*o.channels, o.polls)
	for _, subject := range []struct{ name, path string }{{"peer", peer}, {"ours", ours}} {
		if subject.path == "" {
			continue
		}
		if err := measure(ctx, out, subject.name, subject.path, dir, o); err != nil {
			return fmt.Errorf("%s: %w", subject.name, err)
		}
	}
	return nil
}

// measure runs one daemon through all forms.
func measure(ctx context.Context, out io.Writer, name, path, dir string, o options) (err error) {
	data := filepath.Join(dir, name)
	if err := prepare(data, o); err != nil {
		return err
	}
	p, err := daemon.Start(ctx, daemon.Options{Path: path, DataPath: data})
	if err != nil {
		return err
	}
	defer func() {
		if killErr := p.Kill(); err == nil {
			err = killErr
		}
	}()
	consumers, err := subscribe(ctx, p.TCPAddr, o)
	for _, c := range consumers {
		defer c.Close()
	}
	if err != nil {
		return err
	}
	for _, form := range forms {
		bytes, took, cpu, err := poll(p, form, o.polls)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "| %s | %s | %d | %.2f | %.2f |\n", name, form, bytes, ms(took), ms(cpu))
	}
	return nil
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// prepare writes the list of topics and channels that both daemons read at their first start.
func prepare(dir string, o options) error {
	type channel struct {
		Name   string `json:"name"`
		Paused bool   `json:"paused"`
	}
	type topic struct {
		Name     string    `json:"name"`
		Paused   bool      `json:"paused"`
		Channels []channel `json:"channels"`
	}
	var topics []topic
	for i := range o.topics {
		t := topic{Name: fmt.Sprintf("topic%d", i)}
		for j := range o.channels {
			t.Channels = append(t.Channels, channel{Name: fmt.Sprintf("channel%d", j)})
		}
		topics = append(topics, t)
	}
	text, err := json.Marshal(map[string]any{"version": "1.3.0", "topics": topics})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "nsqd.dat"), text, 0o600)
}

// subscribe opens a consumer for every channel.
func subscribe(ctx context.Context, addr string, o options) ([]net.Conn, error) {
	var all []net.Conn
	for i := range o.topics {
		for j := range o.channels {
			c, err := client.Dial(ctx, addr, map[string]any{"client_id": "client", "hostname": "host.example", "user_agent": "statsbench/1", "heartbeat_interval": 60000})
			if err != nil {
				return all, err
			}
			all = append(all, c)
			if err := c.Subscribe(fmt.Sprintf("topic%d", i), fmt.Sprintf("channel%d", j)); err != nil {
				return all, err
			}
		}
	}
	return all, nil
}

// poll asks again and again and returns the size of an answer, the median duration and the daemon's CPU per poll.
func poll(p *daemon.Process, form string, polls int) (bytes int64, took, cpu time.Duration, err error) {
	http := http.Client{Transport: &http.Transport{MaxIdleConns: 1}, Timeout: 2 * time.Minute}
	defer http.CloseIdleConnections()
	var times []time.Duration
	var before time.Duration
	for i := range polls + 1 {
		if i == 1 { // the first one warms up
			if before, err = p.CPU(); err != nil {
				return 0, 0, 0, err
			}
		}
		began := time.Now()
		answer, err := http.Get("http://" + p.HTTPAddr + "/stats?" + form)
		if err != nil {
			return 0, 0, 0, err
		}
		bytes, err = io.Copy(io.Discard, answer.Body)
		if closeErr := answer.Body.Close(); err == nil {
			err = closeErr
		}
		if err != nil {
			return 0, 0, 0, err
		}
		if i > 0 {
			times = append(times, time.Since(began))
		}
	}
	after, err := p.CPU()
	slices.Sort(times)
	return bytes, times[len(times)/2], (after - before) / time.Duration(polls), err
}
