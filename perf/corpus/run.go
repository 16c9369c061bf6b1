package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/nsqio/go-nsq"

	"github.com/nsqloop/nsqloop/perf/daemon"
	"github.com/nsqloop/nsqloop/perf/ledger"
)

type options struct {
	nsqd      string
	args      []string
	tcp, http string
	lines     int
	channels  int
	consumers int
	producers int
	requeue   int
	out       io.Writer
}

const (
	topic = "corpus"
	// msgTimeout is nsqd's default. Messages may wait long in go-nsq before its handler sees them, hence the slack.
	msgTimeout = 60 * time.Second
	slack      = 30 * time.Second
	// stuck is how long nothing may arrive while something is owed.
	stuck          = 30 * time.Second
	quiet          = 500 * time.Millisecond // at the end, for deliveries that nobody is owed
	offendersShown = 20
	// maxMsgSize replaces nsqd's default of 1 MiB: the longest line, a table in generated code, has 1.4 MB.
	maxMsgSize = "--max-msg-size=2097152"
)

// passage is one text on its way through one daemon.
type passage struct {
	options
	deal
	api      daemon.API
	book     *ledger.Ledger
	arrived  atomic.Int64
	requeues atomic.Int64
}

// run starts a daemon if none was named, and sends the text through it.
func (o options) run(ctx context.Context, t *text) (err error) {
	if o.tcp == "" {
		dir, err := os.MkdirTemp("", "corpus-")
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
		if o.nsqd == "" {
			o.nsqd = filepath.Join(dir, "nsqd")
			if err := daemon.Build(ctx, o.nsqd); err != nil {
				return err
			}
		}
		data := filepath.Join(dir, "data")
		if err := os.Mkdir(data, 0o700); err != nil {
			return err
		}
		process, err := daemon.Start(ctx, daemon.Options{Path: o.nsqd, DataPath: data, Args: append([]string{maxMsgSize}, o.args...)})
		if err != nil {
			return err
		}
		o.tcp, o.http = process.TCPAddr, process.HTTPAddr
		err = o.send(ctx, t)
		if err != nil {
			err = fmt.Errorf("%w\nnsqd said last:\n%s", err, process.Tail(20))
		} else {
			err = o.printUsage(process)
		}
		return errors.Join(err, process.Stop(30*time.Second))
	}
	return o.send(ctx, t)
}

// printUsage tells what the daemon took.
func (o options) printUsage(process *daemon.Process) error {
	cpu, err := process.CPU()
	if err != nil {
		return err
	}
	memory, err := process.Memory()
	if err != nil {
		return err
	}
	fmt.Fprintf(o.out, "nsqd used %.1f s of CPU and holds %d MB of anonymous memory\n", cpu.Seconds(), memory.Anon>>20)
	return nil
}

func (o options) send(ctx context.Context, t *text) error {
	p := &passage{options: o, deal: deal{text: t, producers: o.producers}, api: daemon.API{Addr: o.http}}
	var channels []string
	for i := range o.channels {
		channels = append(channels, fmt.Sprintf("ch%d", i))
	}
	p.book = ledger.New(ledger.Config{
		Bodies: p.deal, Producers: o.producers, Channels: channels, MsgTimeout: msgTimeout, Slack: slack,
	})
	fmt.Fprintf(o.out, "%d lines, %.1f MB\n", len(t.ends), float64(len(t.bytes))/1e6)
	if err := p.api.CreateTopic(ctx, topic, channels...); err != nil {
		return err
	}
	started := time.Now()
	stopConsumers, err := p.startConsumers(channels)
	defer stopConsumers()
	if err != nil {
		return err
	}
	if err := p.publishAll(ctx); err != nil {
		return err
	}
	published := time.Since(started)
	if err := p.awaitAll(ctx); err != nil {
		return err
	}
	consumed := time.Since(started) - quiet
	stopConsumers()

	report := p.book.Report()
	fmt.Fprintf(o.out, "published in %.1f s, consumed in %.1f s, %d deliveries, %d requeues asked for\n%v\n",
		published.Seconds(), consumed.Seconds(), p.arrived.Load(), p.requeues.Load(), report)
	if report.Faults() > 0 {
		report.Offenders = report.Offenders[:min(len(report.Offenders), offendersShown)]
		return errors.Join(fmt.Errorf("%d faults", report.Faults()), report.WriteOffenders(o.out))
	}
	if report.Count(ledger.ClassOK) != int64(len(t.ends)*o.channels) {
		return fmt.Errorf("%d lines to %d channels, but only %d arrived", len(t.ends), o.channels, report.Count(ledger.ClassOK))
	}
	return nil
}

// startConsumers subscribes all of them; stop ends them and may be called again.
func (p *passage) startConsumers(channels []string) (stop func(), err error) {
	var started []*nsq.Consumer
	stop = func() {
		for _, consumer := range started {
			consumer.Stop()
		}
		for _, consumer := range started {
			<-consumer.StopChan
		}
		started = nil
	}
	for _, channel := range channels {
		for i := range p.consumers {
			config := clientConfig()
			config.MaxInFlight = 1000
			consumer, err := nsq.NewConsumer(topic, channel, config)
			if err != nil {
				return stop, err
			}
			consumer.SetLoggerLevel(nsq.LogLevelError)
			book := p.book.Channel(channel)
			requeues := i == 0 && p.requeue > 0
			consumer.AddHandler(nsq.HandlerFunc(func(m *nsq.Message) error {
				p.take(book, m, requeues)
				return nil
			}))
			if err := consumer.ConnectToNSQD(p.tcp); err != nil {
				return stop, err
			}
			started = append(started, consumer)
		}
	}
	return stop, nil
}

// clientConfig is go-nsq's default but for the write timeout of a second: on a busy machine it would break connections, which the ledger is
// not told of.
func clientConfig() *nsq.Config {
	config := nsq.NewConfig()
	config.WriteTimeout = 30 * time.Second
	return config
}

// take enters a message and answers it.
func (p *passage) take(book *ledger.Channel, m *nsq.Message, requeues bool) {
	m.DisableAutoResponse()
	receipt := book.Delivered(m.Body, m.Attempts)
	if n := p.arrived.Add(1); requeues && n%int64(p.requeue) == 0 && m.Attempts < 4 {
		p.requeues.Add(1)
		delay := time.Duration(n/int64(p.requeue)%4) * 30 * time.Millisecond
		book.Requeued(receipt, delay)
		m.RequeueWithoutBackoff(delay)
		return
	}
	book.Finished(receipt)
	m.Finish()
}

// awaitAll waits until the ledger and the broker agree that nothing is left, or nothing moves any more: then the report tells what is
// missing.
func (p *passage) awaitAll(ctx context.Context) error {
	poll := time.NewTicker(100 * time.Millisecond)
	defer poll.Stop()
	last, lastChange := int64(-1), time.Now()
	for {
		if n := p.arrived.Load(); n != last {
			last, lastChange = n, time.Now()
		}
		still := time.Since(lastChange)
		if still > stuck {
			fmt.Fprintf(p.out, "nothing arrived for %v\n", stuck)
			return nil
		}
		if still > quiet && p.book.Open() == 0 {
			stats, err := p.api.Topic(ctx, topic)
			if err != nil {
				return err
			}
			open := stats.Depth
			for _, channel := range stats.Channels {
				open += channel.Open()
			}
			if open == 0 {
				return nil
			}
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
