// Package options turns the command line and the configuration file of the daemons into checked values.
//
// One table (entries) names every option once: flag, configuration key, help text, the field it fills, and what this version does with it.
// Flags, TOML keys and GET /config are all read from that table.
package options

import (
	"crypto/md5"
	"crypto/tls"
	"hash/crc32"
	"time"

	"github.com/nsqloop/nsqloop/cmd/internal/logging"
)

// Nsqd holds every option of the nsqd daemon. Sizes are bytes, counts are messages or connections. After Load it is read-only, but for
// Bound, which is called once before anything is served.
type Nsqd struct {
	Config  string // path of the TOML file, "" = none
	Version bool   // print and exit

	LogLevel  logging.Level
	LogPrefix string
	LogFormat logging.Format

	AccessLogLevel logging.Level // at which HTTP requests are logged

	ID int64 // the 10 node bits of message ids

	TCPAddress        string
	HTTPAddress       string
	HTTPSAddress      string
	BroadcastAddress  string
	BroadcastTCPPort  int // 0 until Bound
	BroadcastHTTPPort int // 0 until Bound, and after it for a unix socket

	NSQLookupdTCPAddresses   []string
	AuthHTTPAddresses        []string
	AuthHTTPRequestMethod    string
	HTTPClientConnectTimeout time.Duration
	HTTPClientRequestTimeout time.Duration
	TopologyRegion           string
	TopologyZone             string
	Experiments              []string

	DataPath        string // "" = working directory
	MemQueueSize    int64
	MaxBytesPerFile int64
	SyncEvery       int64 // 0 = by time only
	SyncTimeout     time.Duration
	SyncPolicy      SyncPolicy

	QueueScanWorkerPoolMax  int
	QueueScanSelectionCount int

	MsgTimeout    time.Duration
	MaxMsgTimeout time.Duration
	MaxMsgSize    int64
	MaxBodySize   int64
	MaxReqTimeout time.Duration

	MaxHeartbeatInterval   time.Duration
	MaxRdyCount            int64
	MaxOutputBufferSize    int64
	MaxOutputBufferTimeout time.Duration
	MinOutputBufferTimeout time.Duration
	OutputBufferTimeout    time.Duration
	MaxChannelConsumers    int // 0 = unlimited

	StatsdAddress          string
	StatsdPrefix           string // as given until Bound, then expanded
	StatsdInterval         time.Duration
	StatsdMemStats         bool
	StatsdUDPPacketSize    int
	StatsdExcludeEphemeral bool

	E2EProcessingLatencyPercentiles Percentiles
	E2EProcessingLatencyWindowTime  time.Duration

	TLSCert             string
	TLSKey              string
	TLSClientAuthPolicy string
	TLSRootCAFile       string
	TLSRequired         TLSRequired
	TLSMinVersion       TLSMinVersion

	DeflateEnabled  bool
	SnappyEnabled   bool
	MaxDeflateLevel int

	DiskReserve          int64 // bytes; 0 = none
	Loops                int   // 0 = chosen from the processors
	MaxConnections       int   // 0 = chosen from the descriptor limit
	MaxTopics            int
	MaxChannelsPerTopic  int
	MagicTimeout         time.Duration // 0 = none
	MaxTLSHandshakes     int           // 0 = twice the processors
	MetricsMaxSeries     int
	Profile              Profile
	ProfileDir           string // empty = the data path
	Verify               string
	IgnoreStockQueues    bool
	serverTLS, clientTLS *tls.Config // made by Validate
	verbose, workerIDOld bool        // accepted, without effect, as in the stock daemon
}

// Default gives every option the value it has when nobody sets it.
func Default() *Nsqd {
	hostname := hostname()
	return &Nsqd{
		LogLevel: logging.Info, AccessLogLevel: logging.Info, LogPrefix: "[nsqd] ", ID: NodeID(hostname),
		TCPAddress: "0.0.0.0:4150", HTTPAddress: "0.0.0.0:4151", HTTPSAddress: "0.0.0.0:4152", BroadcastAddress: hostname,
		NSQLookupdTCPAddresses: []string{}, AuthHTTPAddresses: []string{}, AuthHTTPRequestMethod: "get",
		HTTPClientConnectTimeout: 2 * time.Second, HTTPClientRequestTimeout: 5 * time.Second, Experiments: []string{},
		MemQueueSize: 10000, MaxBytesPerFile: 100 << 20, SyncTimeout: 2 * time.Second, SyncPolicy: SyncInterval,
		QueueScanWorkerPoolMax: 4, QueueScanSelectionCount: 20,
		MsgTimeout: time.Minute, MaxMsgTimeout: 15 * time.Minute, MaxMsgSize: 1 << 20, MaxBodySize: 5 << 20, MaxReqTimeout: time.Hour,
		MaxHeartbeatInterval: time.Minute, MaxRdyCount: 2500, MaxOutputBufferSize: 64 << 10,
		MaxOutputBufferTimeout: 30 * time.Second, MinOutputBufferTimeout: 25 * time.Millisecond, OutputBufferTimeout: 250 * time.Millisecond,
		StatsdPrefix: "nsq.%s", StatsdInterval: time.Minute, StatsdMemStats: true, StatsdUDPPacketSize: 508,
		E2EProcessingLatencyPercentiles: Percentiles{}, E2EProcessingLatencyWindowTime: 10 * time.Minute,
		TLSMinVersion: tls10, DeflateEnabled: true, SnappyEnabled: true, MaxDeflateLevel: 6,
		DiskReserve: 64 << 20, MaxTopics: 100000, MaxChannelsPerTopic: 10000, MagicTimeout: 5 * time.Second, MetricsMaxSeries: 200000,
	}
}

// NodeID is the default of --node-id: the same for the same hostname as the stock daemon's.
func NodeID(hostname string) int64 {
	sum := md5.Sum([]byte(hostname))
	return int64(crc32.ChecksumIEEE(sum[:]) % 1024)
}
