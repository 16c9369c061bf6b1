package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/nsqloop/nsqloop/codec"
	"github.com/nsqloop/nsqloop/perf/client"
	"github.com/nsqloop/nsqloop/perf/daemon"
	"github.com/nsqloop/nsqloop/perf/load"
)

type options struct {
	nsqd, dir  string
	gigabytes  float64
	limit      int64 // MiB
	size, stay int
	out        io.Writer
}

const (
	topic      = "straggler"
	channel    = "ch"
	roundBytes = 128 << 20
	batch      = 100
	longest    = 15 * time.Minute // the daemon's default for --max-msg-timeout
	delay      = time.Hour
	sampleTime = 50 * time.Millisecond
)

// answer is what the connection that holds the first message is told.
type answer struct {
	kind uint32
	data string
	err  error
}

// rig is one run.
type rig struct {
	options
	data   string
	broker *daemon.Process
	usage  *usage
	stayed int // messages requeued for an hour
}

func (o options) run(ctx context.Context) (err error) {
	home, err := os.MkdirTemp(o.dir, "straggler-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(home)) }()
	if o.nsqd == "" {
		o.nsqd = filepath.Join(home, "nsqd")
		if err := daemon.Build(ctx, o.nsqd); err != nil {
			return err
		}
	}
	r := &rig{options: o, data: filepath.Join(home, "data")}
	if err := os.Mkdir(r.data, 0o700); err != nil {
		return err
	}
	if err := r.start(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.broker.Kill()) }()
	if err := r.flow(ctx); err != nil {
		return err
	}
	return r.restart(ctx)
}

func (r *rig) start(ctx context.Context) (err error) {
	r.broker, err = daemon.Start(ctx, daemon.Options{Path: r.nsqd, DataPath: r.data})
	return err
}

// flow holds one message while the rest goes past.
func (r *rig) flow(ctx context.Context) error {
	if err := r.broker.API().CreateTopic(ctx, topic, channel); err != nil {
		return err
	}
	holder, err := r.subscribe(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = holder.Close() }() // its message is finished by then
	holder.Out = codec.AppendRdy(holder.Out, 1)
	if err := r.publish(ctx, 1); err != nil {
		return err
	}
	if err := holder.Flush(); err != nil {
		return err
	}
	kind, frame, err := holder.Next()
	if err != nil || kind != codec.FrameMessage {
		return fmt.Errorf("no first message: frame type %d, %w", kind, err)
	}
	id := append([]byte(nil), frame[codec.MessageIDAt-codec.FrameHeader:][:codec.IDLen]...)
	answers := make(chan answer, 1)
	go func() {
		kind, data, err := holder.Next() // answers heartbeats until the FINs are refused
		answers <- answer{kind, string(data), err}
	}()
	r.usage = watch(r.data)
	began := time.Now()
	total := int(r.gigabytes * 1e9 / float64(r.size))
	for left := total; left > 0 && err == nil; {
		n := min(left, roundBytes/r.size)
		err = r.round(ctx, n)
		left -= n
	}
	took := time.Since(began)
	peak := r.usage.stop()
	if err != nil {
		return err
	}
	bytes, err := diskUsage(r.data)
	if err != nil {
		return err
	}
	fmt.Fprintf(r.out, "%.2f GB in %d messages past one that is in flight, %d of them requeued for an hour: %.0f s; disk at most %d MiB, at the end %d MiB\n",
		float64(total)*float64(r.size)/1e9, total, r.stayed, took.Seconds(), peak>>20, bytes>>20)
	if peak > r.limit<<20 {
		return fmt.Errorf("the data directory took %d MiB, more than %d", peak>>20, r.limit)
	}
	return r.finish(ctx, holder, id, answers)
}

func (r *rig) subscribe(ctx context.Context) (*client.Conn, error) {
	conn, err := client.Dial(ctx, r.broker.TCPAddr, map[string]any{"msg_timeout": longest.Milliseconds()})
	if err != nil {
		return nil, err
	}
	return conn, conn.Subscribe(topic, channel)
}

func (r *rig) publish(ctx context.Context, messages int) error {
	p, err := load.Publisher{Addr: r.broker.TCPAddr, Topic: topic, Conns: 1, Messages: messages, Size: r.size, Batch: batch, Window: 8}.Prepare(ctx)
	if err != nil {
		return err
	}
	defer p.Close()
	return p.Run(ctx)
}

// round publishes n messages and consumes as many.
func (r *rig) round(ctx context.Context, n int) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return r.publish(ctx, n) })
	group.Go(func() error { return r.consume(ctx, n) })
	return group.Wait()
}

// consume takes n messages and finishes or requeues each.
func (r *rig) consume(ctx context.Context, n int) error {
	conn, err := r.subscribe(ctx)
	if err != nil {
		return err
	}
	unhook := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer unhook()
	defer func() { _ = conn.Close() }() // CLS was answered
	conn.Out = codec.AppendRdy(conn.Out, 2500)
	for i := range n {
		if !conn.Ready() {
			if err := conn.Flush(); err != nil {
				return err
			}
		}
		kind, frame, err := conn.Next()
		if err != nil {
			return err
		}
		if kind != codec.FrameMessage {
			return fmt.Errorf("frame type %d: %.100q", kind, frame)
		}
		id := frame[codec.MessageIDAt-codec.FrameHeader:][:codec.IDLen]
		if r.stay > 0 && i%r.stay == 0 {
			r.stayed++
			conn.Out = codec.AppendReq(conn.Out, id, delay)
		} else {
			conn.Out = codec.AppendFin(conn.Out, id)
		}
	}
	conn.Out = codec.AppendCls(conn.Out)
	return conn.Expect("CLOSE_WAIT")
}

// finish finishes the first message, which must count once.
func (r *rig) finish(ctx context.Context, holder *client.Conn, id []byte, answers <-chan answer) error {
	before, err := r.stats(ctx)
	if err != nil {
		return err
	}
	if before.InFlight != 1 || before.Depth != 0 || before.Deferred != int64(r.stayed) || before.Timeouts != 0 {
		return fmt.Errorf("before the last FIN: %+v", before)
	}
	if _, err := holder.Write(codec.AppendFin(codec.AppendFin(nil, id), id)); err != nil {
		return err
	}
	if a := <-answers; a.err != nil || a.kind != codec.FrameError {
		return fmt.Errorf("the second FIN of the first message is not refused: frame type %d, %q, %w", a.kind, a.data, a.err)
	}
	after, err := r.stats(ctx)
	if err != nil {
		return err
	}
	if after.InFlight != 0 || after.Open() != int64(r.stayed) {
		return fmt.Errorf("after the last FIN: %+v", after)
	}
	return nil
}

func (r *rig) stats(ctx context.Context) (daemon.ChannelStats, error) {
	t, err := r.broker.API().Topic(ctx, topic)
	if err != nil {
		return daemon.ChannelStats{}, err
	}
	if len(t.Channels) != 1 {
		return daemon.ChannelStats{}, fmt.Errorf("%d channels", len(t.Channels))
	}
	return t.Channels[0], nil
}

// restart kills the daemon and looks at what the next one finds.
func (r *rig) restart(ctx context.Context) error {
	if err := r.broker.Kill(); err != nil {
		return err
	}
	clean, text, err := daemon.Verify(ctx, r.nsqd, r.data)
	if err != nil || !clean {
		return errors.Join(err, fmt.Errorf("the data directory is not clean:\n%s", text))
	}
	began := time.Now()
	if err := r.start(ctx); err != nil {
		return err
	}
	took := time.Since(began)
	s, err := r.stats(ctx)
	if err != nil {
		return err
	}
	if s.Depth != 0 || s.InFlight != 0 || s.Deferred != int64(r.stayed) {
		return fmt.Errorf("after a kill: %+v", s)
	}
	fmt.Fprintf(r.out, "finished once; killed, started in %d ms: %d deferred, nothing else\n", took.Milliseconds(), s.Deferred)
	return nil
}

// usage samples the blocks of a directory until stop, which returns the most it saw.
type usage struct {
	quit chan struct{}
	most chan int64
}

func watch(dir string) *usage {
	u := &usage{quit: make(chan struct{}), most: make(chan int64, 1)}
	go func() {
		most := int64(0)
		tick := time.NewTicker(sampleTime)
		defer tick.Stop()
		for {
			if n, err := diskUsage(dir); err == nil { // the last call, at the end, tells of an error
				most = max(most, n)
			}
			select {
			case <-u.quit:
				u.most <- most
				return
			case <-tick.C:
			}
		}
	}()
	return u
}

func (u *usage) stop() int64 {
	close(u.quit)
	return <-u.most
}

// diskUsage is what the blocks of a directory's files take.
func diskUsage(dir string) (bytes int64, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, err
	}
	for _, e := range entries {
		if e.Name() == "nsqloop.reserve" {
			continue // kept free for a full disk, whatever happens
		}
		var st unix.Stat_t
		err := unix.Stat(filepath.Join(dir, e.Name()), &st)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			return 0, err
		}
		bytes += st.Blocks * 512
	}
	return bytes, nil
}
