package load

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/nsqloop/nsqloop/codec"
	"github.com/nsqloop/nsqloop/perf/client"
)

// Pace is an open loop: messages leave by a schedule, whether or not earlier ones were answered. Every latency counts from the time the
// schedule gave its message, so that a broker that makes the generator wait is charged for all who would have come meanwhile.
type Pace struct {
	Addr     string
	Topic    string
	Conns    int // they take turns; each message is a PUB and a write of its own
	Rate     int // messages per second over all connections
	Messages int
	Size     int // bytes of a body, at least StampSize
	Link     client.Link
	// Skip is how many messages at the beginning are not recorded.
	Skip int
}

// StampSize is how many bytes of a body say when its message was due.
const StampSize = 8

// epoch is what stamps count from.
var epoch = time.Now()

func sinceEpoch() int64 { return int64(time.Since(epoch)) }

// Pacing is a Pace with its connections open.
type Pacing struct {
	Pace
	conns   []*client.Conn
	command []byte
	stampAt int // in command
	began   atomic.Int64
	acks    []*hdrhistogram.Histogram // one for each connection, of its goroutine
}

// NewHistogram holds latencies of up to a minute in ns to three digits.
func NewHistogram() *hdrhistogram.Histogram { return hdrhistogram.New(1, int64(time.Minute), 3) }

// Prepare connects. Close must be called.
func (p Pace) Prepare(ctx context.Context) (*Pacing, error) {
	pacing := &Pacing{Pace: p}
	if p.Size < StampSize {
		return nil, fmt.Errorf("%d bytes have no room for a stamp", p.Size)
	}
	body := make([]byte, p.Size)
	pacing.command = codec.AppendPub(nil, p.Topic, body)
	pacing.stampAt = len(pacing.command) - p.Size
	for range p.Conns {
		conn, err := p.Link.Dial(ctx, p.Addr, map[string]any{"heartbeat_interval": -1})
		if err != nil {
			pacing.Close()
			return nil, err
		}
		pacing.conns = append(pacing.conns, conn)
		pacing.acks = append(pacing.acks, NewHistogram())
	}
	return pacing, nil
}

// Close closes the connections.
func (p *Pacing) Close() {
	for _, conn := range p.conns {
		_ = conn.Close() // after the last OK nothing is left to lose
	}
}

// Acknowledgements are the times from when messages were due to when their answers were read, in ns. Valid after Run.
func (p *Pacing) Acknowledgements() *hdrhistogram.Histogram {
	all := NewHistogram()
	for _, h := range p.acks {
		all.Merge(h)
	}
	return all
}

// Late is how long ago the message of a body was due, in ns; ok is false for one of the first Skip.
func (p *Pacing) Late(body []byte) (late int64, ok bool) {
	due := int64(binary.LittleEndian.Uint64(body))
	return sinceEpoch() - due, due >= p.due(p.Skip)
}

// due is when message n leaves.
func (p *Pacing) due(n int) int64 {
	return p.began.Load() + int64(n)*int64(time.Second)/int64(p.Rate)
}

// Run publishes everything and returns when the last answer was read.
func (p *Pacing) Run(ctx context.Context) error {
	p.began.Store(sinceEpoch() + int64(time.Millisecond))
	group, ctx := errgroup.WithContext(ctx)
	for i, conn := range p.conns {
		unhook := context.AfterFunc(ctx, func() { _ = conn.Close() })
		group.Go(func() error {
			defer unhook()
			if err := p.readAnswers(i); err != nil {
				return fmt.Errorf("pace: %w", err)
			}
			return nil
		})
	}
	group.Go(func() error { return p.send(ctx) })
	return group.Wait()
}

// send writes every message when it is due. It holds a thread, whose sleeps the kernel does not round.
func (p *Pacing) send(ctx context.Context) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0); err != nil {
		return err
	}
	defer func() { _ = unix.Prctl(unix.PR_SET_TIMERSLACK, 0, 0, 0, 0) }() // back to the default, which cannot fail
	for n := range p.Messages {
		due := p.due(n)
		for wait := due - sinceEpoch(); wait > 0; wait = due - sinceEpoch() {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			sleep := unix.NsecToTimespec(min(wait, int64(10*time.Millisecond)))
			if err := unix.ClockNanosleep(unix.CLOCK_MONOTONIC, 0, &sleep, nil); err != nil && !errors.Is(err, unix.EINTR) {
				return err
			}
		}
		binary.LittleEndian.PutUint64(p.command[p.stampAt:], uint64(due))
		if _, err := p.conns[n%len(p.conns)].Write(p.command); err != nil {
			return fmt.Errorf("pace: %w", err)
		}
	}
	return nil
}

// readAnswers reads those of one connection; answers come in the order of the messages.
func (p *Pacing) readAnswers(index int) error {
	in, have := make([]byte, readBytes), 0
	for n := index; n < p.Messages; {
		got, err := p.conns[index].Read(in[have:])
		if err != nil {
			return err
		}
		have += got
		used := 0
		for n < p.Messages {
			size, err := wholeOK(in[used:have])
			if err != nil {
				return err
			}
			if size == 0 {
				break
			}
			used += size
			if n >= p.Skip {
				if err := p.acks[index].RecordValue(max(1, sinceEpoch()-p.due(n))); err != nil {
					return err
				}
			}
			n += len(p.conns)
		}
		have = copy(in, in[used:have])
	}
	return nil
}

// wholeOK is the size of the OK at the beginning of in, 0 if it is not whole.
func wholeOK(in []byte) (int, error) {
	ok := codec.FrameOK
	if len(in) < len(ok) && bytes.HasPrefix(ok, in) {
		return 0, nil
	}
	if !bytes.HasPrefix(in, ok) {
		return 0, fmt.Errorf("the broker answers %.120q", in)
	}
	return len(ok), nil
}
