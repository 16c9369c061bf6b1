// Command tail prints the body of every message of a topic, one a line, and finishes it: the quickest way to see something arrive.
//
//	go run ./perf/tail [-nsqd host:port] TOPIC CHANNEL
//
// It is an ordinary consumer of its channel, so what it prints other consumers of that channel do not get. Ctrl-C ends it.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/nsqio/go-nsq"
)

func main() {
	addr := flag.String("nsqd", "127.0.0.1:4150", "TCP address of nsqd")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: tail [-nsqd host:port] TOPIC CHANNEL")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() != 2 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := tail(ctx, *addr, flag.Arg(0), flag.Arg(1)); err != nil {
		fmt.Fprintln(os.Stderr, "tail:", err)
		os.Exit(1)
	}
}

// tail prints until ctx ends or a line cannot be written.
func tail(ctx context.Context, addr, topic, channel string) error {
	config := nsq.NewConfig()
	config.MaxInFlight = 100
	consumer, err := nsq.NewConsumer(topic, channel, config)
	if err != nil {
		return err
	}
	consumer.SetLoggerLevel(nsq.LogLevelError)
	failed := make(chan error, 1)
	consumer.AddHandler(nsq.HandlerFunc(func(m *nsq.Message) error {
		_, err := fmt.Printf("%s\n", m.Body)
		if err != nil { // a closed pipe: what was not shown goes back to the channel
			select {
			case failed <- err:
			default:
			}
		}
		return err
	}))
	if err := consumer.ConnectToNSQD(addr); err != nil {
		return err
	}
	select {
	case err = <-failed:
	case <-ctx.Done():
	case <-consumer.StopChan:
	}
	consumer.Stop()
	<-consumer.StopChan
	return err
}
