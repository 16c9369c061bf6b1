// Command lookupbench measures what lookups cost an nsqlookupd of a large cluster, beside any other one.
//
//	go run ./perf/lookupbench -peer PATH [-ours PATH] [-peers 1000] [-topics 1000] [-producers 50] [-registers 1000] [-time 5s]
//
// Every topic has so many producers and one channel; meanwhile channels are taken back and registered again at the given rate. First the peer's limit is
// looked for with lookups one after the other on several connections. Then both get half of that as a steady load, and what counts is the
// CPU time of the daemon per lookup, less what the registrations alone cost.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/nsqloop/nsqloop/perf/daemon"
)

type options struct {
	ours, peer                          string
	peers, topics, producers, registers int
	connections                         int
	time                                time.Duration
}

func main() {
	var o options
	flag.StringVar(&o.ours, "ours", "", "our nsqlookupd; without one, cmd/nsqlookupd is built")
	flag.StringVar(&o.peer, "peer", "", "the nsqlookupd to compare with; without one ours is measured alone")
	flag.IntVar(&o.peers, "peers", 1000, "connections of nsqds")
	flag.IntVar(&o.topics, "topics", 1000, "topics")
	flag.IntVar(&o.producers, "producers", 50, "producers of each topic")
	flag.IntVar(&o.registers, "registers", 1000, "REGISTERs a second meanwhile")
	flag.IntVar(&o.connections, "connections", 16, "HTTP connections")
	flag.DurationVar(&o.time, "time", 5*time.Second, "how long each step takes")
	flag.Parse()
	if err := run(context.Background(), os.Stdout, o); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, out io.Writer, o options) (err error) {
	if o.ours == "" {
		dir, err := os.MkdirTemp("", "lookupbench-")
		if err != nil {
			return err
		}
		defer func() {
			if removeErr := os.RemoveAll(dir); err == nil {
				err = removeErr
			}
		}()
		o.ours = filepath.Join(dir, "nsqlookupd")
		if err := daemon.BuildPackage(ctx, o.ours, daemon.LookupPackage); err != nil {
			return err
		}
	}
	fmt.Fprintf(out, "%d peers, %d topics with %d producers each, %d REGISTERs a second\n\n", o.peers, o.topics, o.producers, o.registers)
	paths := map[string]string{"ours": o.ours, "peer": o.peer}
	limiting := "peer"
	if o.peer == "" {
		limiting = "ours"
		delete(paths, "peer")
	}
	limit := 0.0
	if err := with(ctx, paths[limiting], o, func(c *cluster) error {
		limit, err = c.closedLoop()
		return err
	}); err != nil {
		return err
	}
	fmt.Fprintf(out, "limit of %s, %d connections: %.0f lookups/s\n\n", limiting, o.connections, limit)
	fmt.Fprintf(out, "| nsqlookupd | lookups/s | CPU us per lookup | with registrations | p50 ms | p99 ms | anonymous MB |\n| --- | ---: | ---: | ---: | ---: | ---: | ---: |\n")
	for _, name := range []string{"peer", "ours"} {
		if paths[name] == "" {
			continue
		}
		if err := with(ctx, paths[name], o, func(c *cluster) error {
			r, err := c.steady(limit / 2)
			if err == nil {
				fmt.Fprintf(out, "| %s | %.0f | %.1f | %.1f | %.2f | %.2f | %.1f |\n", name, r.rate, us(r.net), us(r.gross), us(r.p50)/1000, us(r.p99)/1000,
					float64(r.anon)/(1<<20))
			}
			return err
		}); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func us(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// with runs f on a fresh daemon that knows the whole cluster.
func with(ctx context.Context, path string, o options, f func(c *cluster) error) error {
	p, err := daemon.Start(ctx, daemon.Options{Path: path})
	if err != nil {
		return err
	}
	c, err := newCluster(p, o)
	if err == nil {
		err = f(c)
	}
	if c != nil {
		err = errors.Join(err, c.close())
	}
	return errors.Join(err, p.Kill())
}
