// Command due defers messages, kills the broker, starts it again and measures when they come.
//
//	go run ./perf/due [-nsqd PATH] [-dir DIR] [-delay 2m] [-n 1000] [-late 20ms] [-fill 0]
//
// n messages are published with the delay, n more are requeued with it after a delivery, 2 ms apart. None may be early, each must come with the
// attempts that it should have, and 99.9 % within -late of their time; on a machine that does something else as well, allow more. With -fill N
// so many messages wait for an hour in another topic meanwhile: their memory and the time of the start with them are printed.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	o := options{out: os.Stdout}
	flag.StringVar(&o.nsqd, "nsqd", "", "nsqd binary to start; empty: cmd/nsqd is built")
	flag.StringVar(&o.dir, "dir", "", "where the data directory is made; empty: the temporary directory")
	flag.DurationVar(&o.delay, "delay", 2*time.Minute, "how long messages are deferred")
	flag.IntVar(&o.samples, "n", 1000, "messages of each kind, at most 1250")
	flag.DurationVar(&o.late, "late", 20*time.Millisecond, "p99.9 allowed")
	flag.IntVar(&o.fill, "fill", 0, "messages that wait for an hour in another topic")
	flag.Parse()
	if flag.NArg() > 0 || o.samples < 1 || o.samples > 1250 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := o.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "due:", err)
		stop()
		os.Exit(1)
	}
}
