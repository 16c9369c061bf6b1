// Command straggler lets gigabytes flow past messages that nobody finishes and watches the disk.
//
//	go run ./perf/straggler [-nsqd PATH] [-dir DIR] [-gb 10] [-limit 1024] [-size 1000] [-stay 0]
//
// One consumer takes one message and keeps it. Then -gb gigabytes are published and consumed beside it, in rounds; with -stay N one of every
// N of those messages is requeued for an hour instead of being finished. The blocks of the data directory are counted all the time and must
// stay below -limit MiB. At the end the first message is finished, which must count once, the daemon is killed and started again, and what
// was requeued must still be deferred, and nothing else be there.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	o := options{out: os.Stdout}
	flag.StringVar(&o.nsqd, "nsqd", "", "nsqd binary to start; empty: cmd/nsqd is built")
	flag.StringVar(&o.dir, "dir", "", "where the data directory is made; empty: the temporary directory")
	flag.Float64Var(&o.gigabytes, "gb", 10, "gigabytes of bodies to publish and consume")
	flag.Int64Var(&o.limit, "limit", 1024, "most MiB that the data directory may take")
	flag.IntVar(&o.size, "size", 1000, "bytes of a body")
	flag.IntVar(&o.stay, "stay", 0, "one of so many messages is requeued for an hour; 0: none")
	flag.Parse()
	if flag.NArg() > 0 || o.size < 1 || o.stay < 0 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := o.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "straggler:", err)
		stop()
		os.Exit(1)
	}
}
