package options

import (
	"fmt"
	"os"
	"time"

	"github.com/nsqloop/nsqloop/cmd/internal/logging"
)

// Nsqlookupd holds every option of the nsqlookupd daemon. After LoadLookupd it is read-only.
type Nsqlookupd struct {
	Config  string // path of the TOML file, "" = none
	Version bool   // print and exit

	LogLevel       logging.Level
	LogPrefix      string
	LogFormat      logging.Format
	AccessLogLevel logging.Level // at which HTTP requests are logged

	TCPAddress       string
	HTTPAddress      string
	BroadcastAddress string

	InactiveProducerTimeout time.Duration
	TombstoneLifetime       time.Duration

	MagicTimeout     time.Duration // 0 = none
	MaxConnections   int           // 0 = chosen from the descriptor limit
	MaxTopics        int
	MaxChannels      int // of all topics together
	MaxLineSize      int // bytes
	MaxIdentifySize  int // bytes
	MetricsMaxSeries int
	verbose          bool // accepted, without effect, as in the stock daemon
}

// DefaultLookupd gives every option the value it has when nobody sets it.
func DefaultLookupd() *Nsqlookupd {
	return &Nsqlookupd{
		LogLevel: logging.Info, AccessLogLevel: logging.Info, MetricsMaxSeries: 200000, LogPrefix: "[nsqlookupd] ",
		TCPAddress: "0.0.0.0:4160", HTTPAddress: "0.0.0.0:4161", BroadcastAddress: hostname(),
		InactiveProducerTimeout: 5 * time.Minute, TombstoneLifetime: 45 * time.Second,
		MagicTimeout: 5 * time.Second, MaxTopics: 100000, MaxChannels: 1000000, MaxLineSize: 4096, MaxIdentifySize: 64 << 10,
	}
}

// hostname is empty when the system has none: the address to announce is then unknown, and can be set by flag.
func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return ""
	}
	return name
}

// LoadLookupd reads nsqlookupd's command line (without the program's name), then the file it names, over the defaults. Exactly one result is nil.
func LoadLookupd(program string, args []string) (*Nsqlookupd, *Exit) {
	o := DefaultLookupd()
	if exit := fill(program, o, &o.Config, &o.Version, args); exit != nil {
		return nil, exit
	}
	return o, nil
}

// entries is the table of all nsqlookupd options, in the order of flags.md.
func (o *Nsqlookupd) entries() []entry {
	return keyed([]entry{
		{"config", flagOnly, &o.Config, built, "TOML configuration `file`; flags override it"},
		{"version", flagOnly, &o.Version, built, "print the version and exit"},
		{"verbose", flagOnly, &o.verbose, built, "[deprecated] no effect, use --log-level"},
		{"log-level", "", &o.LogLevel, built, "lowest `level` that is logged: debug, info, warn, error, fatal"},
		{"log-prefix", "", &o.LogPrefix, built, "text at the start of every log line"},
		{"tcp-address", "", &o.TCPAddress, built, "host:port for nsqd"},
		{"http-address", "", &o.HTTPAddress, built, "host:port for HTTP"},
		{"broadcast-address", "", &o.BroadcastAddress, built, "address announced to nsqd, name of a network interface, or auto; by default the hostname"},
		{"inactive-producer-timeout", "", &o.InactiveProducerTimeout, built, "how long after its last PING a producer is shown"},
		{"tombstone-lifetime", "", &o.TombstoneLifetime, built, "how long a tombstone hides a producer of a topic"},
		{"magic-timeout", "", &o.MagicTimeout, built, "time a new connection has to send its protocol; 0 = any"},
		{"max-connections", "", &o.MaxConnections, built, "nsqd connections; 0 = what the descriptor limit allows"},
		{"max-topics", "", &o.MaxTopics, built, "topics beyond this are refused"},
		{"max-channels", "", &o.MaxChannels, built, "channels of all topics together beyond this are refused"},
		{"max-line-size", "", &o.MaxLineSize, built, "longest command line in bytes"},
		{"max-identify-size", "", &o.MaxIdentifySize, built, "largest IDENTIFY body in bytes"},
		{"log-format", "", &o.LogFormat, built, "text or json"},
		{"access-log-level", "", &o.AccessLogLevel, built, "`level` at which HTTP requests are logged"},
		{"metrics-max-series", "", &o.MetricsMaxSeries, built, "series of topics in /metrics; what is beyond is left out and counted"},
	})
}

// Validate checks what the types cannot.
func (o *Nsqlookupd) Validate() error {
	for _, c := range []struct {
		flag     string
		got, min int
	}{
		{"max-connections", o.MaxConnections, 0},
		{"max-topics", o.MaxTopics, 1},
		{"max-channels", o.MaxChannels, 1},
		{"max-line-size", o.MaxLineSize, 256},
		{"max-identify-size", o.MaxIdentifySize, 1024},
		{"metrics-max-series", o.MetricsMaxSeries, 0},
	} {
		if c.got < c.min {
			return fmt.Errorf("--%s must be at least %d", c.flag, c.min)
		}
	}
	if o.MagicTimeout < 0 {
		return fmt.Errorf("--magic-timeout must not be negative")
	}
	return nil
}
