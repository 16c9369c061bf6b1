package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// API is the part of nsqd's HTTP interface that rigs need, of the daemon at host:port Addr. Each call is one connection, so
// nothing is left open when the daemon is killed.
type API struct{ Addr string }

// API of this process.
func (p *Process) API() API { return API{Addr: p.HTTPAddr} }

// ChannelStats and TopicStats are the fields of /stats that rigs look at.
type ChannelStats struct {
	Name     string `json:"channel_name"`
	Paused   bool   `json:"paused"`
	Depth    int64  `json:"depth"`
	InFlight int64  `json:"in_flight_count"`
	Deferred int64  `json:"deferred_count"`
	Messages int64  `json:"message_count"`
	Requeues int64  `json:"requeue_count"`
	Timeouts int64  `json:"timeout_count"`
}

type TopicStats struct {
	Name     string         `json:"topic_name"`
	Paused   bool           `json:"paused"`
	Depth    int64          `json:"depth"`
	Messages int64          `json:"message_count"`
	Channels []ChannelStats `json:"channels"`
}

// Open is the number of messages this channel still owes somebody.
func (c ChannelStats) Open() int64 { return c.Depth + c.InFlight + c.Deferred }

// CreateTopic makes sure topic and its channels exist.
func (a API) CreateTopic(ctx context.Context, topic string, channels ...string) error {
	if err := a.Post(ctx, "/topic/create", url.Values{"topic": {topic}}); err != nil {
		return err
	}
	for _, channel := range channels {
		if err := a.Post(ctx, "/channel/create", url.Values{"topic": {topic}, "channel": {channel}}); err != nil {
			return err
		}
	}
	return nil
}

// DeleteTopic removes topic with everything in it.
func (a API) DeleteTopic(ctx context.Context, topic string) error {
	return a.Post(ctx, "/topic/delete", url.Values{"topic": {topic}})
}

// Topic returns the figures of one topic; a topic that does not exist is an error.
func (a API) Topic(ctx context.Context, topic string) (TopicStats, error) {
	topics, err := a.topics(ctx, url.Values{"topic": {topic}})
	if err != nil {
		return TopicStats{}, err
	}
	for _, t := range topics {
		if t.Name == topic {
			return t, nil
		}
	}
	return TopicStats{}, fmt.Errorf("/stats does not name topic %s", topic)
}

// Topics returns the figures of all topics.
func (a API) Topics(ctx context.Context) ([]TopicStats, error) { return a.topics(ctx, url.Values{}) }

func (a API) topics(ctx context.Context, query url.Values) ([]TopicStats, error) {
	var stats struct {
		Topics []TopicStats `json:"topics"`
	}
	query.Set("format", "json")
	query.Set("include_clients", "false")
	text, err := a.call(ctx, http.MethodGet, "/stats", query)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, &stats); err != nil {
		return nil, fmt.Errorf("/stats: %w", err)
	}
	return stats.Topics, nil
}

// Post sends a request without a body; an answer other than 200 is an error.
func (a API) Post(ctx context.Context, path string, query url.Values) error {
	_, err := a.call(ctx, http.MethodPost, path, query)
	return err
}

var client = http.Client{
	Transport: &http.Transport{DisableKeepAlives: true},
	Timeout:   60 * time.Second, // deleting a topic of millions of messages takes the stock daemon seconds
}

// Get asks for path and returns the body of a 200 answer.
func (a API) Get(ctx context.Context, path string, query url.Values) ([]byte, error) {
	return a.call(ctx, http.MethodGet, path, query)
}

func (a API) call(ctx context.Context, method, path string, query url.Values) ([]byte, error) {
	target := url.URL{Scheme: "http", Host: a.Addr, Path: path, RawQuery: query.Encode()}
	request, err := http.NewRequestWithContext(ctx, method, target.String(), nil)
	if err != nil {
		return nil, err
	}
	reply, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(reply.Body)
	if closeErr := reply.Body.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if reply.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s %s", path, reply.Status, bytes.TrimSpace(text))
	}
	return text, nil
}
