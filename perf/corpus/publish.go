package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"

	"github.com/nsqio/go-nsq"

	"github.com/nsqloop/nsqloop/perf/ledger"
)

const (
	batchMax      = 300     // lines of one MultiPublish
	batchBytesMax = 1 << 20 // it ends with the line that exceeds this
	windowMax     = 200     // asynchronous publishes without an answer
)

// publishAll sends every line; it returns when each was acknowledged.
func (p *passage) publishAll(ctx context.Context) error {
	var running sync.WaitGroup
	failures := make([]error, p.deal.producers)
	for i := range p.deal.producers {
		running.Go(func() { failures[i] = p.publish(ctx, i) })
	}
	running.Wait()
	return errors.Join(failures...)
}

// publisher sends the lines of one producer in order, with the four publishing calls of go-nsq in random turn.
type publisher struct {
	*passage
	nsq     *nsq.Producer
	number  uint32
	left    int
	done    chan *nsq.ProducerTransaction // its capacity is windowMax: go-nsq blocks when nobody reads it
	pending int
}

func (p *passage) publish(ctx context.Context, number int) error {
	producer, err := nsq.NewProducer(p.tcp, clientConfig())
	if err != nil {
		return err
	}
	producer.SetLoggerLevel(nsq.LogLevelError)
	defer producer.Stop()
	w := &publisher{
		passage: p, nsq: producer, number: uint32(number), left: p.deal.lines(number),
		done: make(chan *nsq.ProducerTransaction, windowMax),
	}
	random := rand.New(rand.NewPCG(1, uint64(number)))
	for w.left > 0 && err == nil && ctx.Err() == nil {
		switch choice := random.IntN(100); {
		case choice < 20:
			keys, bodies := w.next(1)
			if err = producer.Publish(topic, bodies[0]); err == nil {
				w.acked(keys)
			}
		case choice < 60:
			for range min(1+random.IntN(100), w.left) {
				keys, bodies := w.next(1)
				if err = w.async(func() error { return producer.PublishAsync(topic, bodies[0], w.done, keys) }); err != nil {
					break
				}
			}
		case choice < 80:
			keys, bodies := w.next(1 + random.IntN(batchMax))
			if err = producer.MultiPublish(topic, bodies); err == nil {
				w.acked(keys)
			}
		default:
			keys, bodies := w.next(1 + random.IntN(batchMax))
			err = w.async(func() error { return producer.MultiPublishAsync(topic, bodies, w.done, keys) })
		}
	}
	for w.pending > 0 && err == nil {
		err = w.await()
	}
	return errors.Join(err, ctx.Err())
}

// next enters up to n lines, at least one.
func (w *publisher) next(n int) (keys []ledger.Key, bodies [][]byte) {
	for size := 0; len(keys) < n && w.left > 0 && size < batchBytesMax; size += len(bodies[len(bodies)-1]) {
		key := w.book.Sent(w.number, 0)
		keys = append(keys, key)
		bodies = append(bodies, w.book.Body(nil, key))
		w.left--
	}
	return keys, bodies
}

func (w *publisher) acked(keys []ledger.Key) {
	for _, key := range keys {
		w.book.Acked(key)
	}
}

func (w *publisher) async(send func() error) error {
	for w.pending == windowMax {
		if err := w.await(); err != nil {
			return err
		}
	}
	w.pending++
	return send()
}

func (w *publisher) await() error {
	transaction := <-w.done
	w.pending--
	if transaction.Error == nil {
		w.acked(transaction.Args[0].([]ledger.Key))
	}
	return transaction.Error
}
