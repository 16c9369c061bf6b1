package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/nsqloop/nsqloop/perf/ledger"
)

// web publishes over HTTP, on connections that are kept.
type web struct{ http.Client }

func newWeb() *web { return &web{http.Client{Transport: &http.Transport{}, Timeout: time.Minute}} }

// publish posts bodies, one with /pub, several with a binary /mpub. An answer other than 200 is an error.
func (w *web) publish(ctx context.Context, addr string, query url.Values, bodies [][]byte) error {
	path, body := "/pub", bodies[0]
	if len(bodies) > 1 {
		path = "/mpub"
		query.Set("binary", "true")
		body = binary.BigEndian.AppendUint32(nil, uint32(len(bodies)))
		for _, b := range bodies {
			body = binary.BigEndian.AppendUint32(body, uint32(len(b)))
			body = append(body, b...)
		}
	}
	target := url.URL{Scheme: "http", Host: addr, Path: path, RawQuery: query.Encode()}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, target.String(), bytes.NewReader(body))
	if err != nil {
		return err
	}
	reply, err := w.Do(request)
	if err != nil {
		return err
	}
	text, err := io.ReadAll(reply.Body)
	if err = errors.Join(err, reply.Body.Close()); err != nil {
		return err
	}
	if reply.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s %s", path, reply.Status, text)
	}
	return nil
}

// webPublisher is the publisher that uses HTTP.
type webPublisher struct {
	*rig
	clients *clients
	number  uint32
	random  *rand.Rand
}

func (p *webPublisher) run(ctx context.Context) error {
	for ctx.Err() == nil {
		n, delay, query := 1, time.Duration(0), url.Values{"topic": {topic}}
		switch choice := p.random.IntN(10); {
		case choice < 4:
			n = 1 + p.random.IntN(mpubMax)
		case choice < 6 && p.deferred:
			delay = (1 + time.Duration(p.random.Int64N(int64(delayMax)))).Truncate(time.Millisecond)
			query.Set("defer", strconv.FormatInt(delay.Milliseconds(), 10))
		}
		keys, bodies := make([]ledger.Key, n), make([][]byte, n)
		for i := range n {
			keys[i] = p.book.Sent(p.number, delay)
			bodies[i] = p.book.Body(nil, keys[i])
		}
		if err := p.web.publish(ctx, p.daemon.HTTPAddr, query, bodies); err != nil {
			return err
		}
		for _, key := range keys {
			p.book.Acked(key)
		}
		p.clients.published.Add(int64(n))
		time.Sleep(time.Duration(n) * pace)
	}
	return ctx.Err()
}
