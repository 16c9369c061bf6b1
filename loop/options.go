package loop

import (
	"crypto/tls"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"time"

	"github.com/nsqloop/nsqloop/codec"
)

// Options configure a Server. Limits, Identify and Server must be filled (codec has their defaults); a zero value of
// the others means what is said there.
type Options struct {
	// Addresses to listen on: host:port, or the path of a Unix socket.
	Addresses []string

	// Loops is the number of event loops, 1 to 64; 0: half of GOMAXPROCS.
	Loops int

	// MaxConnections bounds the open connections; one beyond is closed at once. 0: no bound.
	MaxConnections int64

	// MagicTimeout is how long a connection may take for its first four bytes. 0: for ever.
	MagicTimeout time.Duration

	Limits   codec.Limits
	Identify codec.IdentifyLimits // what IDENTIFY may ask for, and what holds without it
	Server   codec.ServerInfo     // what the IDENTIFY response tells of this daemon

	// Auth names the servers that give clients their permissions.
	Auth AuthOptions

	// Log takes the log lines. nil: none are written.
	Log LogFunc

	// TLS is offered to clients with it; nil: it is not. TLSRequired refuses every command but IDENTIFY of clients that
	// do not take the offer.
	TLS         *tls.Config
	TLSRequired bool

	// MaxHandshakes is how many TLS handshakes compute at the same time. 0: twice the processors.
	MaxHandshakes int

	// upgrade gives the filter for what an IDENTIFY negotiated, nil for none. Set by tests.
	upgrade func(codec.Grant) Filter
}

const loopsMax = 64 // hungry loops of a channel are bits of a word

func (o *Options) complete() error {
	if o.Loops == 0 {
		o.Loops = min(max(1, runtime.GOMAXPROCS(0)/2), loopsMax)
	}
	if o.Loops < 1 || o.Loops > loopsMax {
		return fmt.Errorf("number of event loops %d out of range 1-%d", o.Loops, loopsMax)
	}
	if o.Limits.MaxMsgSize <= 0 || o.Limits.MaxBodySize <= 0 || o.Identify.MsgTimeout <= 0 || o.Server.Version == "" {
		return errors.New("incomplete options: limits, message timeout or version missing")
	}
	if o.MaxHandshakes == 0 {
		o.MaxHandshakes = 2 * runtime.GOMAXPROCS(0)
	}
	if o.TLSRequired && o.TLS == nil {
		return errors.New("TLS is required but not offered")
	}
	o.Server.TLSv1 = o.TLS != nil
	if o.Log == nil {
		o.Log = func(LogLevel, string, ...any) {}
	}
	return nil
}

// carryMax bounds what is gathered of one unfinished command, in bytes. The protocol bounds every command but one: the
// declared size of an MPUB is not binding, so it is what has arrived that must be bounded.
func (o *Options) carryMax() int {
	return int(o.Limits.MaxBodySize+o.Limits.MaxMsgSize) + codec.LineMax
}

// errTooLong refuses a command of which have bytes have arrived, more than carryMax.
func (o *Options) errTooLong(have int) *codec.Error {
	return &codec.Error{
		Code:  codec.CodeBadBody,
		Desc:  "MPUB body too big " + strconv.Itoa(have) + " > " + strconv.FormatInt(o.Limits.MaxBodySize, 10),
		Fatal: true,
	}
}
