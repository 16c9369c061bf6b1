package ledger

import (
	"bytes"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	msgTimeout = time.Second
	slack      = 100 * time.Millisecond
)

// book is a ledger with one producer and one channel, and short words for what happens.
type book struct {
	*testing.T
	*Ledger
	ch *Channel
}

func newBook(t *testing.T) *book {
	l := New(Config{
		Bodies: Padded{Seed: 7, Min: 20, Max: 60}, Producers: 2, Channels: []string{"c"}, MsgTimeout: msgTimeout, Slack: slack,
	})
	return &book{T: t, Ledger: l, ch: l.Channel("c")}
}

// pub sends and acknowledges n messages of producer 0.
func (b *book) pub(n int) (keys []Key) {
	for range n {
		key := b.Sent(0, 0)
		b.Acked(key)
		keys = append(keys, key)
	}
	return keys
}

func (b *book) get(key Key, attempts uint16) Delivery {
	return b.ch.Delivered(b.Body(nil, key), attempts)
}

func (b *book) finish(key Key, attempts uint16) Delivery {
	d := b.get(key, attempts)
	b.ch.Finished(d)
	return d
}

func one(d Delivery) []Delivery { return []Delivery{d} }

// verdict is what a scenario must end in, beside the ok messages.
type verdict map[Class]int64

func TestEveryClassIsFound(t *testing.T) {
	tests := []struct {
		name   string
		script func(b *book)
		want   verdict
	}{
		{"ok", func(b *book) {
			for _, key := range b.pub(3) {
				b.ch.Barrier(one(b.finish(key, 1)))
			}
		}, verdict{ClassOK: 3}},
		{"lost prefix, middle and suffix", func(b *book) {
			keys := b.pub(6)
			b.finish(keys[1], 1)
			b.finish(keys[4], 1)
		}, verdict{ClassOK: 2, ClassLostPrefix: 1, ClassLostMiddle: 2, ClassLostSuffix: 1}},
		{"all lost is a suffix", func(b *book) { b.pub(4) }, verdict{ClassLostSuffix: 4}},
		{"another producer is no neighbour", func(b *book) {
			b.finish(b.pub(1)[0], 1)
			b.Acked(b.Sent(1, 0))
		}, verdict{ClassOK: 1, ClassLostSuffix: 1}},
		{"a held message that never returns is lost", func(b *book) {
			keys := b.pub(3)
			b.finish(keys[0], 1)
			b.get(keys[1], 1)
			b.finish(keys[2], 1)
		}, verdict{ClassOK: 2, ClassLostMiddle: 1}},
		{"requeued and never back is lost", func(b *book) {
			d := b.get(b.pub(1)[0], 1)
			b.ch.Requeued(d, time.Second)
			b.ch.Barrier(one(d))
		}, verdict{ClassLostSuffix: 1}},
		{"dropped with its connection and never back is lost", func(b *book) {
			b.ch.Disconnected(one(b.get(b.pub(1)[0], 1)))
		}, verdict{ClassLostSuffix: 1}},
		{"a refused FIN finishes nothing", func(b *book) {
			b.ch.FinRefused(b.finish(b.pub(1)[0], 1))
		}, verdict{ClassLostSuffix: 1}},
		{"unknown", func(b *book) {
			b.Sent(0, 0)
			b.finish(b.Sent(0, 0), 1)
		}, verdict{ClassUnknown: 2}},
		{"duplicate after timeout", func(b *book) {
			key := b.pub(1)[0]
			b.get(key, 1)
			time.Sleep(msgTimeout)
			b.finish(key, 2)
		}, verdict{ClassOK: 1, ClassDuplicate: 1}},
		{"held too short to time out", func(b *book) {
			key := b.pub(1)[0]
			b.get(key, 1)
			time.Sleep(msgTimeout - 2*slack)
			b.finish(key, 2)
		}, verdict{ClassOK: 1, ClassDuplicateWithoutCause: 1}},
		{"two consumers got the same attempt", func(b *book) {
			key := b.pub(1)[0]
			b.get(key, 1)
			time.Sleep(msgTimeout)
			b.ch.Requeued(b.get(key, 1), 0)
			b.finish(key, 1)
		}, verdict{ClassOK: 1, ClassDuplicateWithoutCause: 2}},
		{"duplicate after disconnect", func(b *book) {
			key := b.pub(1)[0]
			b.ch.Disconnected(one(b.get(key, 1)))
			b.finish(key, 2)
		}, verdict{ClassOK: 1, ClassDuplicate: 1}},
		{"FIN and disconnect: may come again", func(b *book) {
			keys := b.pub(2)
			b.ch.Disconnected(one(b.finish(keys[0], 1)))
			b.ch.Disconnected(one(b.finish(keys[1], 1)))
			b.finish(keys[1], 2)
		}, verdict{ClassOK: 2, ClassDuplicate: 1}},
		{"duplicate after requeue", func(b *book) {
			key := b.pub(1)[0]
			b.ch.Requeued(b.get(key, 1), 0)
			b.finish(key, 2)
		}, verdict{ClassOK: 1, ClassDuplicate: 1}},
		{"duplicate after restart", func(b *book) {
			keys := b.pub(2)
			b.get(keys[0], 1)
			b.finish(keys[1], 1)
			b.Restarted()
			b.finish(keys[0], 2)
			b.finish(keys[1], 2)
		}, verdict{ClassOK: 2, ClassDuplicate: 2}},
		{"a restart excuses one more delivery, not two", func(b *book) {
			key := b.pub(1)[0]
			b.get(key, 1)
			b.Restarted()
			b.get(key, 2)
			b.finish(key, 3)
		}, verdict{ClassOK: 1, ClassDuplicate: 1, ClassDuplicateWithoutCause: 1}},
		{"finished again after a barrier", func(b *book) {
			keys := b.pub(2)
			b.ch.Barrier(one(b.finish(keys[0], 1)))
			b.ch.Barrier(one(b.finish(keys[1], 1)))
			b.finish(keys[0], 2)
			b.Restarted()
			b.finish(keys[1], 2)
		}, verdict{ClassOK: 2, ClassFinishedAgain: 2}},
		{"phantom", func(b *book) {
			b.get(Key{Producer: 1, Counter: 5}, 1)
			b.get(Key{Producer: 9, Counter: 0}, 1)
		}, verdict{ClassPhantom: 2}},
		{"wrong body", func(b *book) {
			key := b.pub(1)[0]
			body := b.Body(nil, key)
			body[len(body)-1]++
			require.True(b, b.ch.Delivered(body, 1).void)
			b.ch.Delivered(nil, 1)
			b.ch.Delivered([]byte("99999999999-0 "), 1)
			b.ch.Delivered(Padded{Seed: 8, Min: 20, Max: 60}.Append(nil, key), 1)
		}, verdict{ClassLostSuffix: 1, ClassWrongBody: 4}},
		{"deferred publish, early and in time", func(b *book) {
			for _, wait := range []time.Duration{99 * time.Millisecond, 100 * time.Millisecond} {
				key := b.Sent(0, 100*time.Millisecond)
				b.Acked(key)
				time.Sleep(wait)
				b.finish(key, 1)
			}
		}, verdict{ClassOK: 2, ClassEarly: 1}},
		{"deferred publish, early after a restart", func(b *book) {
			key := b.Sent(0, time.Hour)
			b.Acked(key)
			b.Restarted()
			b.finish(key, 1)
		}, verdict{ClassOK: 1, ClassEarly: 1}},
		{"requeue ignored its delay", func(b *book) {
			key := b.pub(1)[0]
			b.ch.Requeued(b.get(key, 1), 100*time.Millisecond)
			time.Sleep(50 * time.Millisecond)
			b.finish(key, 2)
		}, verdict{ClassOK: 1, ClassEarly: 1, ClassDuplicate: 1}},
		{"requeue in time", func(b *book) {
			key := b.pub(1)[0]
			b.ch.Requeued(b.get(key, 1), 100*time.Millisecond)
			time.Sleep(100 * time.Millisecond)
			b.finish(key, 2)
		}, verdict{ClassOK: 1, ClassDuplicate: 1}},
		{"confirmed requeue forgot its delay at the restart", func(b *book) {
			key := b.pub(1)[0]
			d := b.get(key, 1)
			b.ch.Requeued(d, time.Minute)
			b.ch.Barrier(one(d))
			b.Restarted()
			b.finish(key, 2)
		}, verdict{ClassOK: 1, ClassDelayForgotten: 1, ClassDuplicate: 1}},
		{"confirmed requeue is early without a restart", func(b *book) {
			key := b.pub(1)[0]
			d := b.get(key, 1)
			b.ch.Requeued(d, time.Minute)
			b.ch.Barrier(one(d))
			time.Sleep(2 * msgTimeout)
			b.finish(key, 2)
		}, verdict{ClassOK: 1, ClassEarly: 1, ClassDuplicate: 1}},
		{"an unconfirmed requeue may be forgotten by a restart or a disconnect", func(b *book) {
			keys := b.pub(2)
			b.ch.Requeued(b.get(keys[0], 1), time.Minute)
			d := b.get(keys[1], 1)
			b.ch.Requeued(d, time.Minute)
			b.ch.Disconnected(one(d))
			b.finish(keys[1], 2)
			b.Restarted()
			b.finish(keys[0], 2)
		}, verdict{ClassOK: 2, ClassDuplicate: 2}},
		{"a refused requeue excuses nothing", func(b *book) {
			key := b.pub(1)[0]
			d := b.get(key, 1)
			b.ch.Requeued(d, 0)
			b.ch.ReqRefused(d)
			b.finish(key, 2)
		}, verdict{ClassOK: 1, ClassDuplicateWithoutCause: 1}},
		{"attempts went down", func(b *book) {
			key := b.pub(1)[0]
			b.get(key, 3)
			b.Restarted()
			b.finish(key, 1)
		}, verdict{ClassOK: 1, ClassDuplicate: 1, ClassAttemptsDown: 1}},
		{"attempts went down without a restart", func(b *book) {
			key := b.pub(1)[0]
			b.ch.Requeued(b.get(key, 1), 0)
			b.ch.Requeued(b.get(key, 2), 0)
			b.finish(key, 1)
		}, verdict{ClassOK: 1, ClassDuplicate: 2, ClassAttemptsDown: 1}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBook(t)
				test.script(b)
				report := b.Report()
				got := verdict{}
				for class, n := range report.Channels[0].Counts {
					if n > 0 {
						got[Class(class)] = n
					}
				}
				require.Equal(t, test.want, got, report.String())
				require.EqualValues(t, report.Lost(), b.Open())
				faults := int64(0)
				for class, n := range test.want {
					if class.Fault() {
						faults += n
					}
				}
				require.EqualValues(t, faults, report.Faults())
				require.Len(t, report.Offenders, int(faults))
			})
		})
	}
}

func TestCausesAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBook(t)
		key := b.pub(1)[0]
		b.get(key, 1)
		time.Sleep(msgTimeout)
		b.ch.Requeued(b.get(key, 2), 0)
		b.ch.Disconnected(one(b.get(key, 3)))
		b.get(key, 4)
		b.Restarted()
		b.finish(key, 5)
		report := b.Report()
		require.Equal(t, [causeCount]int64{1, 1, 1, 1}, report.Channels[0].Causes)
		require.Equal(t, "sent 1, acknowledged 1, faults 0\n  c: ok 1 duplicate 4 (timeout 1, disconnect 1, requeue 1, restart 1)",
			report.String())
	})
}

// A consumer that is slow to read sees attempt 1 after another one saw, finished and confirmed attempt 2.
func TestLateReadIsNoFault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBook(t)
		key := b.pub(1)[0]
		b.ch.Barrier(one(b.finish(key, 2)))
		late := b.get(key, 1)
		b.ch.Finished(late)
		b.ch.FinRefused(late)
		report := b.Report()
		require.EqualValues(t, 0, report.Faults(), report)
		require.EqualValues(t, 1, report.Channels[0].LateReads)

		b.get(key, 1) // attempt 1 a second time: nothing explains that
		require.EqualValues(t, 1, b.Report().Count(ClassFinishedAgain))
	})
}

// The refusal of an old FIN must not undo the FIN of the delivery that followed.
func TestAnswersBelongToTheirDelivery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBook(t)
		key := b.pub(1)[0]
		slow := b.finish(key, 1)
		time.Sleep(msgTimeout)
		second := b.finish(key, 2)
		b.ch.FinRefused(slow)
		b.ch.Disconnected(one(slow))
		b.ch.Barrier(one(second))
		require.EqualValues(t, 0, b.Open())
		b.Restarted()
		b.finish(key, 3)
		require.EqualValues(t, 1, b.Report().Count(ClassFinishedAgain))
	})
}

// An answer on the same connection may meet a delivery that came after it was sent: the message may come again or not.
func TestOvertakenByTheNextDelivery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBook(t)
		key := b.pub(1)[0]
		b.finish(key, 1)
		time.Sleep(msgTimeout)
		second := b.get(key, 2)
		b.ch.Overtaken(second)
		b.ch.Finished(second)
		b.ch.FinRefused(second)
		require.EqualValues(t, 0, b.Open())
		b.get(key, 3)
		require.EqualValues(t, 1, b.Open())
		require.EqualValues(t, 1, b.Report().Lost())
	})
}

func TestOffendersAreNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBook(t)
		time.Sleep(time.Second)
		keys := b.pub(2)
		b.finish(keys[1], 1)
		b.finish(keys[1], 2)
		b.ch.Delivered([]byte("garbage"), 4)
		report := b.Report()
		var text strings.Builder
		require.NoError(t, report.WriteOffenders(&text))
		require.Equal(t, "lost-prefix channel=c producer=0 counter=0 sent=1s acked=1s at=0s attempts=0\n"+
			"duplicate-without-cause channel=c producer=0 counter=1 sent=1s acked=1s at=1s attempts=2 was=fin-sent@1s,attempts=1\n"+
			"wrong-body channel=c producer=0 counter=0 sent=1s acked=1s at=1s attempts=4 body=\"garbage\"\n", text.String())
		require.Equal(t, "sent 2, acknowledged 2, faults 3\n  c: ok 1 lost-prefix 1 duplicate-without-cause 1 wrong-body 1", report.String())
	})
}

// Many chunks, many goroutines, and the race detector watching.
func TestConcurrentUse(t *testing.T) {
	const producers, each = 4, 3 * chunkLen
	l := New(Config{Bodies: Padded{Seed: 1, Min: 16, Max: 64}, Producers: producers, Channels: []string{"a", "b"}, MsgTimeout: time.Minute})
	var running sync.WaitGroup
	for p := range uint32(producers) {
		running.Go(func() {
			var pending []Delivery
			for range each {
				key := l.Sent(p, 0)
				body := l.Body(nil, key)
				for _, name := range []string{"a", "b"} {
					d := l.Channel(name).Delivered(body, 1)
					l.Channel(name).Finished(d)
					if name == "a" {
						pending = append(pending, d)
					}
				}
				l.Acked(key)
				if len(pending) == 100 {
					l.Channel("a").Barrier(pending)
					pending = pending[:0]
				}
			}
		})
	}
	running.Go(func() { l.Open() })
	running.Wait()
	report := l.Report()
	require.EqualValues(t, producers*each, report.Acked)
	require.EqualValues(t, 2*producers*each, report.Count(ClassOK))
	require.EqualValues(t, 0, report.Faults(), report)
	require.Panics(t, func() { l.Channel("none") })
}

func TestFaultsWithExceptions(t *testing.T) {
	b := newBook(t)
	b.pub(3)
	b.ch.Delivered([]byte("garbage"), 1)
	lost, err := ParseClass("lost-suffix")
	require.NoError(t, err)
	require.EqualValues(t, 4, b.Report().Faults())
	require.EqualValues(t, 1, b.Report().Faults(lost, ClassEarly))
	_, err = ParseClass("late")
	require.ErrorContains(t, err, `there is no class "late", only ok, lost-prefix`)
}

func TestPaddedBodies(t *testing.T) {
	p := Padded{Seed: 3, Min: 10, Max: 100000}
	sizes := [3]int{}
	for n := range uint32(3000) {
		key := Key{Producer: n % 7, Counter: n}
		body := p.Append([]byte("x"), key)[1:]
		got, ok := p.Key(body)
		require.True(t, ok)
		require.Equal(t, key, got)
		require.Equal(t, body, p.Append(nil, key))
		require.False(t, bytes.Equal(body, Padded{Seed: 4, Min: 10, Max: 100000}.Append(nil, key)) && len(body) > 12)
		switch {
		case len(body) < 100:
			sizes[0]++
		case len(body) < 10000:
			sizes[1]++
		default:
			sizes[2]++
		}
	}
	for _, n := range sizes {
		require.Greater(t, n, 500)
	}
	require.Len(t, Padded{Min: 200, Max: 200}.Append(nil, Key{}), 200)
	require.Equal(t, "1-2 ", string(Padded{}.Append(nil, Key{1, 2})))
	for _, text := range []string{"", "-", "1", "1-", "1-2", "a-1 ", "1-b ", "4294967296-0 ", "-1-1 ", "1- "} {
		_, ok := p.Key([]byte(text))
		require.False(t, ok, text)
	}
}
