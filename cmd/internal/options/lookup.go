package options

import (
	"net"
	"reflect"
	"strconv"
	"strings"

	"github.com/nsqloop/nsqloop/cmd/internal/logging"
)

// value is the current value of an entry.
func value(e entry) any { return reflect.ValueOf(e.field).Elem().Interface() }

// Lookup returns an option by its configuration key, as GET /config answers it: words as string; the rest encodes to JSON in the form
// the API documents (durations as nanoseconds, levels and TLS versions as numbers). false: there is no such key.
func (o *Nsqd) Lookup(key string) (any, bool) {
	for _, e := range o.entries() {
		if e.key != key || key == "" {
			continue
		}
		switch v := value(e).(type) {
		case SyncPolicy:
			return string(v), true
		case Profile:
			return string(v), true
		case logging.Format:
			return v.String(), true
		default:
			return v, true
		}
	}
	return nil, false
}

// Bound fills in what is known once the listeners are open: announced ports that were left at 0, and the statsd prefix, which contains
// this node's address. A port of 0 or below (unix socket, listener off) leaves the announced port at 0.
func (o *Nsqd) Bound(tcpPort, httpPort int) {
	if o.BroadcastTCPPort == 0 && tcpPort > 0 {
		o.BroadcastTCPPort = tcpPort
	}
	if o.BroadcastHTTPPort == 0 && httpPort > 0 {
		o.BroadcastHTTPPort = httpPort
	}
	if o.StatsdPrefix == "" {
		return
	}
	address := net.JoinHostPort(o.BroadcastAddress, strconv.Itoa(o.BroadcastHTTPPort))
	address = strings.NewReplacer(".", "_", ":", "_").Replace(address)
	o.StatsdPrefix = strings.ReplaceAll(o.StatsdPrefix, "%s", address)
	if !strings.HasSuffix(o.StatsdPrefix, ".") {
		o.StatsdPrefix += "."
	}
}
