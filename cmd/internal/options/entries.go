package options

import (
	"slices"
	"strings"
)

// support says what this version does with an option.
type support int

const (
	built support = iota // it works
	inert                // accepted; there is nothing here it could steer, which the log says once if it was set
)

// entry is one option. field points into the struct that made the table.
type entry struct {
	flag    string
	key     string // configuration key; "" = not in the file and not in /config
	field   any
	support support
	usage   string
}

// entries is the table of all nsqd options, in the order of flags.md.
func (o *Nsqd) entries() []entry {
	return keyed(o.generalEntries(), o.peerEntries(), o.queueEntries(), o.clientEntries(), o.reportEntries(), o.tlsEntries(), o.ownEntries())
}

// keyed joins groups and fills in the configuration keys that follow from the flags.
func keyed(groups ...[]entry) []entry {
	all := slices.Concat(groups...)
	for i := range all {
		switch all[i].key {
		case "":
			all[i].key = strings.ReplaceAll(all[i].flag, "-", "_")
		case flagOnly:
			all[i].key = ""
		}
	}
	return all
}

// flagOnly marks an option that has no configuration key.
const flagOnly = "-"

func (o *Nsqd) generalEntries() []entry {
	return []entry{
		{"config", flagOnly, &o.Config, built, "TOML configuration `file`; flags override it"},
		{"version", flagOnly, &o.Version, built, "print the version and exit"},
		{"verbose", flagOnly, &o.verbose, built, "[deprecated] no effect, use --log-level"},
		{"worker-id", flagOnly, &o.workerIDOld, built, "[deprecated] no effect, use --node-id"},
		{"log-level", "", &o.LogLevel, built, "lowest `level` that is logged: debug, info, warn, error, fatal"},
		{"log-prefix", "", &o.LogPrefix, built, "text at the start of every log line"},
		{"node-id", "id", &o.ID, built, "this node's part of message ids, 0 to 1023; by default a hash of the hostname"},
		{"tcp-address", "", &o.TCPAddress, built, "host:port, or path of a unix socket, for clients"},
		{"http-address", "", &o.HTTPAddress, built, "host:port, or path of a unix socket, for HTTP; empty = off"},
		{"https-address", "", &o.HTTPSAddress, built, "host:port for HTTPS; opened only with a certificate"},
		{"broadcast-address", "", &o.BroadcastAddress, built, "address announced to others, name of a network interface, or auto; by default the hostname"},
		{"broadcast-tcp-port", "", &o.BroadcastTCPPort, built, "TCP port announced to others; 0 = the one bound"},
		{"broadcast-http-port", "", &o.BroadcastHTTPPort, built, "HTTP port announced to others; 0 = the one bound"},
	}
}

func (o *Nsqd) peerEntries() []entry {
	return []entry{
		{"lookupd-tcp-address", "nsqlookupd_tcp_addresses", &o.NSQLookupdTCPAddresses, built, "nsqlookupd `address`; may be given several times"},
		{"auth-http-address", "auth_http_addresses", &o.AuthHTTPAddresses, built, "`address` or URL of an auth server; may be given several times"},
		{"auth-http-request-method", "", &o.AuthHTTPRequestMethod, built, "how auth servers are asked: get or post"},
		{"http-client-connect-timeout", "", &o.HTTPClientConnectTimeout, built, "connect time-out towards auth servers and nsqlookupd"},
		{"http-client-request-timeout", "", &o.HTTPClientRequestTimeout, built, "request time-out towards auth servers and nsqlookupd"},
		{"topology-region", "", &o.TopologyRegion, built, "region this node is in"},
		{"topology-zone", "", &o.TopologyZone, built, "zone this node is in"},
		{"enable-experiment", "", &o.Experiments, built, "experimental feature by `name`; unknown names are ignored"},
	}
}

func (o *Nsqd) queueEntries() []entry {
	return []entry{
		{"data-path", "", &o.DataPath, built, "existing directory for all data; by default the working directory"},
		{"mem-queue-size", "", &o.MemQueueSize, built, "bound of ephemeral queues, and what depth reporting calls memory, in messages"},
		{"max-bytes-per-file", "", &o.MaxBytesPerFile, built, "upper bound of a segment file in bytes"},
		{"sync-every", "", &o.SyncEvery, built, "0: sync by time only; N: also after N publishes; 1: as --sync-policy=always"},
		{"sync-timeout", "", &o.SyncTimeout, built, "longest time between syncs under --sync-policy=interval"},
		{"queue-scan-worker-pool-max", "", &o.QueueScanWorkerPoolMax, inert, "accepted, nothing to steer here"},
		{"queue-scan-selection-count", "", &o.QueueScanSelectionCount, inert, "accepted, nothing to steer here"},
		{"msg-timeout", "", &o.MsgTimeout, built, "time a consumer has to answer a message"},
		{"max-msg-timeout", "", &o.MaxMsgTimeout, built, "longest message time-out a client may ask for"},
		{"max-msg-size", "", &o.MaxMsgSize, built, "largest message in bytes"},
		{"max-body-size", "", &o.MaxBodySize, built, "largest command body in bytes"},
		{"max-req-timeout", "", &o.MaxReqTimeout, built, "longest requeue delay and deferral"},
	}
}

func (o *Nsqd) clientEntries() []entry {
	return []entry{
		{"max-heartbeat-interval", "", &o.MaxHeartbeatInterval, built, "longest heartbeat interval a client may ask for"},
		{"max-rdy-count", "", &o.MaxRdyCount, built, "largest RDY of a client"},
		{"max-output-buffer-size", "", &o.MaxOutputBufferSize, built, "largest output buffer a client may ask for, in bytes"},
		{"max-output-buffer-timeout", "", &o.MaxOutputBufferTimeout, built, "longest output buffer time-out a client may ask for"},
		{"min-output-buffer-timeout", "", &o.MinOutputBufferTimeout, built, "shortest output buffer time-out a client may ask for"},
		{"output-buffer-timeout", "", &o.OutputBufferTimeout, built, "output buffer time-out of clients that ask for none"},
		{"max-channel-consumers", "", &o.MaxChannelConsumers, built, "consumers allowed per channel; 0 = any number"},
	}
}

func (o *Nsqd) reportEntries() []entry {
	return []entry{
		{"statsd-address", "", &o.StatsdAddress, built, "UDP address that receives statsd metrics; empty = off"},
		{"statsd-prefix", "", &o.StatsdPrefix, built, "prefix of metric names; %s becomes this node's address"},
		{"statsd-interval", "", &o.StatsdInterval, built, "time between pushes"},
		{"statsd-mem-stats", "", &o.StatsdMemStats, built, "push memory figures too"},
		{"statsd-udp-packet-size", "", &o.StatsdUDPPacketSize, built, "largest datagram in bytes"},
		{"statsd-exclude-ephemeral", "", &o.StatsdExcludeEphemeral, built, "leave ephemeral topics and channels out"},
		{"e2e-processing-latency-percentile", "e2e_processing_latency_percentiles", &o.E2EProcessingLatencyPercentiles, built,
			"percentiles of processing time to report, in (0, 1]; several times or separated by commas"},
		{"e2e-processing-latency-window-time", "", &o.E2EProcessingLatencyWindowTime, built, "window of those percentiles"},
	}
}

func (o *Nsqd) tlsEntries() []entry {
	return []entry{
		{"tls-cert", "", &o.TLSCert, built, "certificate `file`"},
		{"tls-key", "", &o.TLSKey, built, "key `file` of the certificate"},
		{"tls-client-auth-policy", "", &o.TLSClientAuthPolicy, built, "demand client certificates: require or require-verify"},
		{"tls-root-ca-file", "", &o.TLSRootCAFile, built, "`file` of authorities that client certificates and auth servers are checked with"},
		{"tls-required", "", &o.TLSRequired, built, "refuse clients without TLS: true, false or tcp-https"},
		{"tls-min-version", "", &o.TLSMinVersion, built, "oldest TLS version spoken: tls1.0, tls1.1, tls1.2, tls1.3"},
		{"deflate", "", &o.DeflateEnabled, built, "let clients negotiate deflate"},
		{"max-deflate-level", "", &o.MaxDeflateLevel, built, "highest deflate level a client may ask for, 1 to 9"},
		{"snappy", "", &o.SnappyEnabled, built, "let clients negotiate snappy"},
	}
}

func (o *Nsqd) ownEntries() []entry {
	return []entry{
		{"sync-policy", "", &o.SyncPolicy, built, "what an acknowledged publish means: interval (in the kernel) or always (on the disk)"},
		{"disk-reserve", "", &o.DiskReserve, built, "bytes kept free for finishing messages on a full disk, at most 1/32 of it; 0 = none"},
		{"loops", "", &o.Loops, built, "event loops; 0 = half the processors"},
		{"max-connections", "", &o.MaxConnections, built, "client connections; 0 = what the descriptor limit allows"},
		{"max-topics", "", &o.MaxTopics, built, "topics beyond this are refused"},
		{"max-channels-per-topic", "", &o.MaxChannelsPerTopic, built, "channels beyond this are refused"},
		{"magic-timeout", "", &o.MagicTimeout, built, "time a new connection has to send its protocol; 0 = any"},
		{"max-tls-handshakes", "", &o.MaxTLSHandshakes, built, "TLS handshakes that compute at the same time; 0 = twice the processors"},
		{"log-format", "", &o.LogFormat, built, "text or json"},
		{"access-log-level", "", &o.AccessLogLevel, built, "`level` at which HTTP requests are logged"},
		{"metrics-max-series", "", &o.MetricsMaxSeries, built, "series of topics and channels in /metrics; what is beyond is left out and counted"},
		{"profile", "", &o.Profile, built, "write a profile from start to stop: cpu, mem, mutex, block or trace"},
		{"profile-dir", "", &o.ProfileDir, built, "where --profile writes; empty = the data path"},
		{"verify", flagOnly, &o.Verify, built, "check the data in `DIR`, print a report and exit"},
		{"ignore-stock-queues", "", &o.IgnoreStockQueues, built, "start although the data path holds queues of a stock nsqd, and leave them alone"},
	}
}
