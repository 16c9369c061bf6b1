package lookupd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/nsqloop/nsqloop/codec"
)

// channelQueries is how many topics may ask at a time: a burst of new topics must not use up the descriptors when an nsqlookupd is silent.
const channelQueries = 16

// channelQuery asks nsqlookupds which channels a topic has elsewhere. Any goroutine.
type channelQuery struct {
	log     Logger
	client  *http.Client
	limit   int64         // bytes of an answer
	timeout time.Duration // of everything, waiting for one's turn included
	turns   chan struct{}
	ctx     context.Context // ends every question
	cancel  context.CancelFunc
}

func newChannelQuery(o PeersOptions) channelQuery {
	ctx, cancel := context.WithCancel(context.Background())
	return channelQuery{
		ctx: ctx, cancel: cancel,
		log: o.Log, limit: o.MaxReplySize, timeout: o.HTTPRequestTimeout, turns: make(chan struct{}, channelQueries),
		client: &http.Client{Transport: &http.Transport{
			DialContext:         (&net.Dialer{Timeout: o.HTTPConnectTimeout}).DialContext,
			MaxIdleConnsPerHost: 1,
			IdleConnTimeout:     time.Minute,
		}},
	}
}

func (q *channelQuery) close() {
	q.cancel()
	q.client.CloseIdleConnections()
}

// union asks all addresses at the same time. An answer that fails to come is logged and counts as empty.
func (q *channelQuery) union(topic string, addrs []string) []string {
	ctx, cancel := context.WithTimeout(q.ctx, q.timeout)
	defer cancel()
	select {
	case q.turns <- struct{}{}:
		defer func() { <-q.turns }()
	case <-ctx.Done():
		q.failed(topic, errors.New("too many topics ask at the same time"))
		return nil
	}
	type answer struct {
		names []string
		err   error
	}
	answers := make(chan answer, len(addrs))
	for _, addr := range addrs {
		go func() {
			names, err := q.ask(ctx, addr, topic)
			answers <- answer{names, err}
		}()
	}
	var all []string
	for range addrs {
		a := <-answers
		if a.err != nil {
			q.failed(topic, a.err)
		}
		all = append(all, a.names...)
	}
	all = slices.DeleteFunc(all, func(name string) bool { return !codec.ValidChannel([]byte(name)) || codec.IsEphemeral([]byte(name)) })
	slices.Sort(all)
	return slices.Compact(all)
}

func (q *channelQuery) failed(topic string, err error) {
	q.log.Warnf("failed to query nsqlookupd for channels to pre-create for topic %s - %s", topic, err)
}

func (q *channelQuery) ask(ctx context.Context, addr, topic string) ([]string, error) {
	target := "http://" + addr + "/channels?topic=" + url.QueryEscape(topic)
	q.log.Infof("CI: querying nsqlookupd %s", target)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/vnd.nsq; version=1.0")
	resp, err := q.client.Do(req)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, q.limit+1))
	if closeErr := resp.Body.Close(); err == nil {
		err = closeErr
	}
	var body struct {
		Channels []string `json:"channels"`
	}
	switch {
	case err != nil:
		return nil, err
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("got response %s %.*q", resp.Status, logged, text)
	case int64(len(text)) > q.limit:
		return nil, fmt.Errorf("%s: answer is longer than %d bytes", target, q.limit)
	}
	err = json.Unmarshal(text, &body)
	return body.Channels, err
}
