// Command corpus sends a real text through nsqd with go-nsq, as its users do, and checks what arrives line by line.
//
//	go run ./perf/corpus [-nsqd PATH | -tcp host:port -http host:port] [-lines N]
//
// The text is every .go file of the Go distribution: over two million lines, of one byte and of many thousand, in every encoding its
// authors thought of. Empty lines are skipped, every other line is prefixed by its number. Unmodified go-nsq producers publish it with
// Publish, PublishAsync, MultiPublish and MultiPublishAsync to one topic with several channels, each with several consumers, some of
// which requeue, at once or with a delay. Every channel must receive every number exactly once, or again with a cause the ledger
// counted, and every body must be identical. A daemon named with -tcp must accept messages of 2 MiB: one line is that long.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

func main() {
	o := options{out: os.Stdout}
	var root, args string
	flag.StringVar(&o.nsqd, "nsqd", "", "nsqd binary to start; without one and without -tcp, cmd/nsqd is built")
	flag.StringVar(&args, "args", "", "more flags for that nsqd, separated by spaces")
	flag.StringVar(&o.tcp, "tcp", "", "TCP address of a running nsqd")
	flag.StringVar(&o.http, "http", "", "its HTTP address")
	flag.StringVar(&root, "root", "", "where the .go files are; empty is the source of the Go distribution")
	flag.IntVar(&o.lines, "lines", 0, "at most so many lines, 0 = all")
	flag.IntVar(&o.channels, "channels", 3, "channels")
	flag.IntVar(&o.consumers, "consumers", 3, "consumers of each channel")
	flag.IntVar(&o.producers, "producers", 4, "producers")
	flag.IntVar(&o.requeue, "requeue", 50, "one consumer of each channel requeues one of so many messages, 0 = none")
	flag.Parse()
	if flag.NArg() > 0 || (o.tcp == "") != (o.http == "") || o.tcp != "" && o.nsqd != "" {
		flag.Usage()
		os.Exit(2)
	}
	o.args = strings.Fields(args)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, root, o); err != nil {
		fmt.Fprintln(os.Stderr, "corpus:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, root string, o options) error {
	if root == "" {
		var err error
		if root, err = goSource(ctx); err != nil {
			return err
		}
	}
	text, err := readText(root, o.lines)
	if err != nil {
		return err
	}
	return o.run(ctx, text)
}
