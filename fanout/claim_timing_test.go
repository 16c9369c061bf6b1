package fanout

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nsqloop/nsqloop/codec"
	"github.com/nsqloop/nsqloop/mmapq"
)

// feed is a consumer with a backlog of 200-byte messages that is topped up with the clock of the benchmark stopped.
type feed struct {
	c       *Consumer
	t       *Topic
	bodies  [][]byte
	left    int
	scratch Scratch
	run     Run
	ids     [claimMax][codec.IDLen]byte
}

func newFeed(tb testing.TB, disk mmapq.Disk) (*feed, *Broker) {
	b, err := Open(disk, mmapq.Options{}, Options{})
	require.NoError(tb, err)
	b.AttachLoop(0, newTestSink())
	t, err := b.Topic([]byte("t"))
	require.NoError(tb, err)
	ch, err := t.Channel([]byte("c"))
	require.NoError(tb, err)
	f := &feed{t: t, bodies: make([][]byte, claimMax)}
	f.c, err = ch.AddConsumer(0, ConsumerOptions{})
	require.NoError(tb, err)
	f.c.SetReady(2500)
	for i := range f.bodies {
		f.bodies[i] = make([]byte, 200)
	}
	return f, b
}

func (f *feed) publish(tb testing.TB, runs int) {
	for range runs {
		_, err := f.t.PublishWait(f.bodies)
		require.NoError(tb, err)
	}
	f.left += runs
}

// claim takes one run and notes the ids, as a client that reads it would.
func (f *feed) claim() int {
	f.left--
	if !f.c.Claim(Now(), &f.scratch, &f.run) {
		return 0
	}
	n := f.run.N
	for i := range n {
		codec.AppendID(f.ids[i][:0], f.run.id(i))
	}
	f.run.Release()
	return n
}

func (f *feed) finish(n int) error {
	for i := range n {
		if err := f.c.Fin(f.ids[i][:], Now()); err != nil {
			return err
		}
	}
	f.c.EndBatch()
	return nil
}

// BenchmarkClaimFin is one message: its part of a claim of about 256 KiB (1,024 messages of 200 bytes), and its FIN.
func BenchmarkClaimFin(b *testing.B) {
	for name, disk := range map[string]func() mmapq.Disk{
		"heap": func() mmapq.Disk { return mmapq.NewHeapDisk() },
		"real": func() mmapq.Disk { return mmapq.NewRealDisk(b.TempDir()) },
	} {
		b.Run(name, func(b *testing.B) {
			f, broker := newFeed(b, disk())
			b.ReportAllocs()
			b.ResetTimer()
			for done := 0; done < b.N; {
				if f.left == 0 {
					b.StopTimer()
					f.publish(b, 400)
					b.StartTimer()
				}
				n := f.claim()
				if err := f.finish(n); err != nil || n == 0 {
					b.Fatal(n, err)
				}
				done += n
			}
			b.StopTimer()
			require.NoError(b, broker.Close())
		})
	}
}

// BenchmarkOneByOne is RDY 1: a claim, a FIN and the end of a batch for every message.
func BenchmarkOneByOne(b *testing.B) {
	f, broker := newFeed(b, mmapq.NewHeapDisk())
	f.c.SetReady(1)
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		if i%(400*claimMax) == 0 {
			b.StopTimer()
			f.publish(b, 400)
			b.StartTimer()
		}
		if n := f.claim(); n != 1 {
			b.Fatal(n)
		}
		f.c.EndBatch()
		if err := f.finish(1); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	require.NoError(b, broker.Close())
}

// BenchmarkRequeue is one message that is put back and claimed again from the side queue.
func BenchmarkRequeue(b *testing.B) {
	f, broker := newFeed(b, mmapq.NewHeapDisk())
	f.publish(b, 1)
	b.ReportAllocs()
	b.ResetTimer()
	for done := 0; done < b.N; {
		n := f.claim()
		for i := range n {
			if err := f.c.Req(f.ids[i][:], 0, 1); err != nil {
				b.Fatal(err)
			}
		}
		f.c.EndBatch()
		done += n
	}
	b.StopTimer()
	require.NoError(b, broker.Close())
}
