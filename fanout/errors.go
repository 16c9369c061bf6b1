package fanout

import (
	"errors"

	"github.com/nsqloop/nsqloop/mmapq"
)

// Errors whose texts reach clients.
var (
	// ErrExiting: the topic, channel or broker is going away.
	ErrExiting = mmapq.ErrExiting
	// ErrWouldBlock: see Topic.Publish. Never sent to a client.
	ErrWouldBlock = mmapq.ErrWouldBlock
	// ErrNotInFlight and ErrNotOwner are the outcomes of FIN, REQ and TOUCH for a message that this connection does not hold.
	ErrNotInFlight = errors.New("ID not in flight")
	ErrNotOwner    = errors.New("client does not own message")
	// ErrTooManyTopics and ErrTooManyChannels: --max-topics, --max-channels-per-topic.
	ErrTooManyTopics   = errors.New("too many topics")
	ErrTooManyChannels = errors.New("too many channels")
)
