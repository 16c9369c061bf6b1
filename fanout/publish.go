package fanout

import (
	"time"

	"github.com/nsqloop/nsqloop/mmapq"
)

// Ack is a promise about published messages. The zero Ack is settled.
type Ack struct {
	st  *mmapq.Store
	log *mmapq.Log
	end mmapq.Pos
}

// Settled tells that the answer may go out: under sync policy interval at once, under always when the sync that covers the messages is done
// or has failed (then Err is set).
func (a Ack) Settled() bool { return a.log == nil || a.log.Durable(a.end) || a.st.Failed() != nil }

// Err tells, after Settled, whether the promise was broken by a failed sync.
func (a Ack) Err() error {
	if a.log == nil || a.log.Durable(a.end) {
		return nil
	}
	return a.st.Failed()
}

// Subscribe asks for LoopSink.AcksSettled on loop. The caller checks Settled again afterwards.
func (a Ack) Subscribe(loop int) {
	if a.log != nil {
		a.log.AwaitLoop(loop)
	}
}

// Wait blocks until the ack is settled. Not for loops.
func (a Ack) Wait() error {
	if a.log == nil {
		return nil
	}
	return a.log.AwaitDurable(a.end)
}

func (t *Topic) ack(s mmapq.Stream, end mmapq.Pos) Ack {
	if t.ephemeral || t.b.st.Policy() != mmapq.SyncAlways || mmapq.Mutant("ack-before-sync") {
		return Ack{}
	}
	return Ack{st: t.b.st, log: t.logs[s], end: end}
}

// Publish appends bodies as consecutive messages. For loops: it never waits. bodies are copied before it returns; done tells how many of them
// were appended. ErrWouldBlock means that no prepared segment is at hand: the caller lets a goroutine call PublishWait with a copy of
// bodies[done:] and answers when that returns. Any other error is final for the rest.
func (t *Topic) Publish(bodies [][]byte) (ack Ack, done int, err error) {
	if mutantEvery("ack-before-append", 500) { // answered and never stored
		return Ack{}, len(bodies), nil
	}
	kept := t.admit(bodies)
	done, end, err := t.logs[streamMain].Append(kept, time.Now().UnixNano(), 0)
	if done > 0 {
		t.committed()
	}
	if err == nil {
		done = len(bodies)
	}
	return t.ack(streamMain, end), done, err
}

// admit applies the bound of an ephemeral topic that holds what is published because it is paused or has no channel: the newest above
// --mem-queue-size is dropped without a word to the publisher. It returns what stays.
func (t *Topic) admit(bodies [][]byte) [][]byte {
	if !t.ephemeral || t.held[streamMain].Load() == 0 || t.deleted.Load() {
		return bodies
	}
	room := t.b.opts.MemQueueSize
	for s, l := range t.logs {
		room -= between(l, t.visible(mmapq.Stream(s)), l.Committed())
	}
	n := min(max(0, int(room)), len(bodies))
	for _, b := range bodies[n:] {
		t.refused.messages.Add(1)
		t.refused.bytes.Add(uint64(len(b)))
	}
	return bodies[:n]
}

// PublishWait is Publish for goroutines that may wait for the disk.
func (t *Topic) PublishWait(bodies [][]byte) (Ack, error) {
	end, err := t.logs[streamMain].AppendWait(t.admit(bodies), time.Now().UnixNano(), 0)
	t.committed()
	return t.ack(streamMain, end), err
}

// committed rings the loops whose consumers wait for messages of a channel of t. One atomic load per channel and batch.
func (t *Topic) committed() {
	for _, ch := range *t.list.Load() {
		ch.wake()
	}
}

// dueMillis is the due time of a delay from now, rounded up: never early. It is on the clock of the disk.
func (b *Broker) dueMillis(delay time.Duration) int64 {
	return (b.toDisk(Now()) + int64(delay) + int64(time.Millisecond) - 1) / int64(time.Millisecond)
}

// fromMillis is a due time that was read from the disk, on the clock of Now.
func (b *Broker) fromMillis(due int64) int64 { return b.fromDisk(due * int64(time.Millisecond)) }

// PublishDeferred appends one message that is delivered no earlier than delay from now. Like Publish it never waits.
func (t *Topic) PublishDeferred(body []byte, delay time.Duration) (Ack, error) {
	_, end, err := t.logs[streamDeferred].Append(t.admit([][]byte{body}), time.Now().UnixNano(), t.b.dueMillis(delay))
	return t.deferred(end, err, func(ch *Channel) { ch.pullSoon(Now()) })
}

// PublishDeferredWait is PublishDeferred for goroutines that may wait for the disk.
func (t *Topic) PublishDeferredWait(body []byte, delay time.Duration) (Ack, error) {
	end, err := t.logs[streamDeferred].AppendWait(t.admit([][]byte{body}), time.Now().UnixNano(), t.b.dueMillis(delay))
	return t.deferred(end, err, (*Channel).pullDeferred)
}

func (t *Topic) deferred(end mmapq.Pos, err error, pull func(*Channel)) (Ack, error) {
	if err != nil {
		return Ack{}, err
	}
	for _, ch := range *t.list.Load() {
		pull(ch)
	}
	return t.ack(streamDeferred, end), nil
}
