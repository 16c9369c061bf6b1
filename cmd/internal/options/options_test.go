package options

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nsqloop/nsqloop/cmd/internal/logging"
	"github.com/nsqloop/nsqloop/cmd/internal/version"
	"github.com/stretchr/testify/require"
)

func load(t *testing.T, args ...string) *Nsqd {
	t.Helper()
	o, exit := Load("nsqd", args)
	require.Nil(t, exit)
	return o
}

func writeConfig(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "nsqd.toml")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

func TestDefaultsAnswerLikeTheStockDaemon(t *testing.T) {
	o := load(t)
	// key -> what GET /config answers; the node-specific ones are tested elsewhere.
	want := map[string]string{
		"log_level": `2`, "log_prefix": `"[nsqd] "`, "tcp_address": `"0.0.0.0:4150"`, "http_address": `"0.0.0.0:4151"`,
		"https_address": `"0.0.0.0:4152"`, "broadcast_tcp_port": `0`, "broadcast_http_port": `0`, "nsqlookupd_tcp_addresses": `[]`,
		"auth_http_addresses": `[]`, "auth_http_request_method": `"get"`, "http_client_connect_timeout": `2000000000`,
		"http_client_request_timeout": `5000000000`, "topology_region": `""`, "topology_zone": `""`, "enable_experiment": `[]`,
		"data_path": `""`, "mem_queue_size": `10000`, "max_bytes_per_file": `104857600`, "sync_every": `0`, "sync_timeout": `2000000000`,
		"queue_scan_worker_pool_max": `4`, "queue_scan_selection_count": `20`, "msg_timeout": `60000000000`,
		"max_msg_timeout": `900000000000`, "max_msg_size": `1048576`, "max_body_size": `5242880`, "max_req_timeout": `3600000000000`,
		"max_heartbeat_interval": `60000000000`, "max_rdy_count": `2500`, "max_output_buffer_size": `65536`,
		"max_output_buffer_timeout": `30000000000`, "min_output_buffer_timeout": `25000000`, "output_buffer_timeout": `250000000`,
		"max_channel_consumers": `0`, "statsd_address": `""`, "statsd_prefix": `"nsq.%s"`, "statsd_interval": `60000000000`,
		"statsd_mem_stats": `true`, "statsd_udp_packet_size": `508`, "statsd_exclude_ephemeral": `false`,
		"e2e_processing_latency_percentiles": `[]`, "e2e_processing_latency_window_time": `600000000000`, "tls_cert": `""`,
		"tls_key": `""`, "tls_client_auth_policy": `""`, "tls_root_ca_file": `""`, "tls_required": `0`, "tls_min_version": `769`,
		"deflate": `true`, "snappy": `true`, "max_deflate_level": `6`,
		"sync_policy": `"interval"`, "disk_reserve": `67108864`, "loops": `0`, "max_connections": `0`, "max_topics": `100000`, "max_channels_per_topic": `10000`,
		"magic_timeout": `5000000000`, "max_tls_handshakes": `0`, "log_format": `"text"`, "access_log_level": `2`, "metrics_max_series": `200000`, "profile": `""`, "profile_dir": `""`,
		"ignore_stock_queues": `false`,
	}
	for key, text := range want {
		v, ok := o.Lookup(key)
		require.True(t, ok, key)
		got, err := json.Marshal(v)
		require.NoError(t, err)
		require.Equal(t, text, string(got), key)
	}
	seen := 0
	for _, e := range o.entries() {
		if e.key != "" && e.key != "id" && e.key != "broadcast_address" {
			require.Contains(t, want, e.key, "an option without an expectation in this table")
			seen++
		}
	}
	require.Len(t, want, seen)
	for _, key := range []string{"", "node_id", "verbose", "config", "version", "worker_id", "verify", "lookupd_tcp_address"} {
		_, ok := o.Lookup(key)
		require.False(t, ok, key)
	}
}

func TestFlagSyntax(t *testing.T) {
	o := load(t, "-mem-queue-size=0x10", "--max-rdy-count", "1_000", "-msg-timeout", "1h30m", "--deflate=false", "-snappy=F",
		"-log-level", "WARN", "-data-path=/a b", "-max-deflate-level", "3")
	require.EqualValues(t, 16, o.MemQueueSize)
	require.EqualValues(t, 1000, o.MaxRdyCount)
	require.Equal(t, 90*time.Minute, o.MsgTimeout)
	require.False(t, o.DeflateEnabled)
	require.False(t, o.SnappyEnabled)
	require.Equal(t, logging.Warn, o.LogLevel)
	require.Equal(t, "/a b", o.DataPath)
	require.Equal(t, 3, o.MaxDeflateLevel)
}

func TestParsingStopsAtTheFirstNonFlag(t *testing.T) {
	for _, stop := range []string{"false", "--", "-", "x"} {
		o := load(t, "-deflate", stop, "-http-address", "x:1")
		require.True(t, o.DeflateEnabled, stop)
		require.Equal(t, "0.0.0.0:4151", o.HTTPAddress, stop)
	}
}

func TestRepeatFlags(t *testing.T) {
	o := load(t, "-lookupd-tcp-address=a,b", "-lookupd-tcp-address", "c", "-tls-required")
	require.Equal(t, []string{"a,b", "c"}, o.NSQLookupdTCPAddresses)
	require.Equal(t, TLSRequiredEverywhere, o.TLSRequired)
	o = load(t, "-e2e-processing-latency-percentile=0.5,0.99,1", "-e2e-processing-latency-percentile", "0.7")
	require.Equal(t, Percentiles{1, 0.99, 0.7, 0.5}, o.E2EProcessingLatencyPercentiles)
}

func TestExits(t *testing.T) {
	cases := []struct {
		args  string
		code  int
		first string // first line of stderr
		usage bool
	}{
		{"-h", 0, "Usage of nsqd:", true},
		{"--help", 0, "Usage of nsqd:", true},
		{"-nope", 2, "flag provided but not defined: -nope", true},
		{"---x", 2, "bad flag syntax: ---x", true},
		{"-mem-queue-size", 2, "flag needs an argument: -mem-queue-size", true},
		{"-mem-queue-size abc", 2, `invalid value "abc" for flag -mem-queue-size: parse error`, true},
		{"-msg-timeout 60", 2, `invalid value "60" for flag -msg-timeout: parse error`, true},
		{"-deflate=foo", 2, `invalid boolean value "foo" for -deflate: parse error`, true},
		{"-log-level warning", 2, `invalid value "warning" for flag -log-level: invalid log level 'warning' (debug, info, warn, error, fatal)`, true},
		{"-tls-min-version ssl3.0", 2, `invalid value "ssl3.0" for flag -tls-min-version: unknown tlsVersionOption "ssl3.0"`, true},
		{"-tls-required=maybe", 2, `invalid boolean value "maybe" for -tls-required: strconv.ParseBool: parsing "maybe": invalid syntax`, true},
		{"-sync-policy never", 2, `invalid value "never" for flag -sync-policy: invalid sync policy 'never' (interval, always)`, true},
		{"-profile wall", 2, `invalid value "wall" for flag -profile: invalid profile 'wall' (cpu, mem, mutex, block, trace)`, true},
		{"-log-format xml", 2, `invalid value "xml" for flag -log-format: invalid log format 'xml' (text, json)`, true},
	}
	for _, c := range cases {
		_, exit := Load("nsqd", strings.Fields(c.args))
		require.NotNil(t, exit, c.args)
		require.Equal(t, c.code, exit.Code, c.args)
		first, rest, _ := strings.Cut(exit.Stderr, "\n")
		require.Equal(t, c.first, first, c.args)
		require.Equal(t, c.usage, strings.Contains(first+rest, "Usage of nsqd:"), c.args)
		require.Empty(t, exit.Fatal+exit.Stdout, c.args)
	}
}

func TestBadPercentileExitsInItsOwnWay(t *testing.T) {
	_, exit := Load("nsqd", []string{"-e2e-processing-latency-percentile", "0.5,abc"})
	require.Equal(t, 1, exit.Code)
	require.Regexp(t, `^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d Could not parse: abc\n$`, exit.Stderr)
}

func TestVersionNeedsNothingElseToBeRight(t *testing.T) {
	_, exit := Load("nsqd", []string{"-version", "-config", "/does/not/exist", "-node-id", "5000"})
	require.Equal(t, 0, exit.Code)
	require.Equal(t, version.Line("nsqd")+"\n", exit.Stdout)
	require.Regexp(t, `^nsqd v1\.3\.0\+nsqloop\.\d+\.\d+\.\d+ \(built w/go1\.\d+.*\)\n$`, exit.Stdout)
}

func TestFileIsBelowFlagsAndAboveDefaults(t *testing.T) {
	path := writeConfig(t, `
id = 7
mem_queue_size = "12"
msg_timeout = 1500
max_msg_timeout = "2m"
deflate = 1
snappy = "T"
statsd_mem_stats = 0
nsqlookupd_tcp_addresses = "a:1,b:2"
auth_http_addresses = ["x"]
enable_experiment = []
e2e_processing_latency_percentiles = [0.5, 0.99]
log_level = "ERROR"
tls_required = "TCP-https"
tls_min_version = ""
sync_policy = "always"
log_format = "json"
max_rdy_count = 9
unknown_key = 5
verbose = "nonsense"
[table]
id = 9
`)
	o := load(t, "-config", path, "-max-rdy-count", "11")
	require.EqualValues(t, 7, o.ID)
	require.EqualValues(t, 12, o.MemQueueSize)
	require.Equal(t, 1500*time.Millisecond, o.MsgTimeout)
	require.Equal(t, 2*time.Minute, o.MaxMsgTimeout)
	require.False(t, o.DeflateEnabled, "an integer is inverted")
	require.True(t, o.SnappyEnabled)
	require.True(t, o.StatsdMemStats)
	require.Equal(t, []string{"a:1", "b:2"}, o.NSQLookupdTCPAddresses)
	require.Equal(t, []string{"x"}, o.AuthHTTPAddresses)
	require.Empty(t, o.Experiments)
	require.Equal(t, Percentiles{0.5, 0.99}, o.E2EProcessingLatencyPercentiles, "order of the file is kept")
	require.Equal(t, logging.Error, o.LogLevel)
	require.Equal(t, TLSRequiredExceptHTTP, o.TLSRequired)
	require.Equal(t, tls10, o.TLSMinVersion)
	require.Equal(t, SyncAlways, o.SyncPolicy)
	require.Equal(t, logging.JSON, o.LogFormat)
	require.EqualValues(t, 11, o.MaxRdyCount)
	require.EqualValues(t, 5<<20, o.MaxBodySize)

	o = load(t, "-config", path, "-lookupd-tcp-address", "c:3")
	require.Equal(t, []string{"c:3"}, o.NSQLookupdTCPAddresses, "a repeat flag replaces the file's list")
}

func TestFileErrors(t *testing.T) {
	cases := []struct{ text, fatal, stderr string }{
		{`bad toml`, `failed to load config file FILE - toml: line 1: expected '.' or '=', but got 't' instead`, ``},
		{`log_level = "warning"`, `failed parsing log_level warning`, ``},
		{`log_level = 1`, `failed parsing log_level 1`, ``},
		{`tls_required = "maybe"`, `failed parsing tls_required maybe`, ``},
		{`tls_min_version = "ssl3.0"`, `failed parsing tls_min_version ssl3.0`, ``},
		{"log_level = \"x\"\ntls_min_version = \"y\"\ntls_required = \"z\"\nmem_queue_size = \"s\"", `failed parsing tls_required z`, ``},
		{"log_level = \"x\"\nmem_queue_size = \"s\"", `failed parsing log_level x`, ``},
		{`sync_policy = "never"`, `failed parsing sync_policy never`, ``},
		{`mem_queue_size = "abc"`, ``, `Resolve failed to coerce value abc (10000) for field MemQueueSize - strconv.ParseInt: parsing "abc": invalid syntax`},
		{`mem_queue_size = "0x10"`, ``, `Resolve failed to coerce value 0x10 (10000) for field MemQueueSize - strconv.ParseInt: parsing "0x10": invalid syntax`},
		{`mem_queue_size = 1.5`, ``, `Resolve failed to coerce value 1.5 (10000) for field MemQueueSize - invalid int64 value type float64`},
		{`max_deflate_level = true`, ``, `Resolve failed to coerce value true (6) for field MaxDeflateLevel - invalid int64 value type bool`},
		{`id = "x"`, ``, `Resolve failed to coerce value x (ID) for field ID - strconv.ParseInt: parsing "x": invalid syntax`},
		{`msg_timeout = "60"`, ``, `Resolve failed to coerce value 60 (1m0s) for field MsgTimeout - time: missing unit in duration "60"`},
		{`msg_timeout = true`, ``, `Resolve failed to coerce value true (1m0s) for field MsgTimeout - invalid time.Duration value type bool`},
		{`deflate = "no"`, ``, `Resolve failed to coerce value no (true) for field DeflateEnabled - strconv.ParseBool: parsing "no": invalid syntax`},
		{`snappy = 1.5`, ``, `Resolve failed to coerce value 1.5 (true) for field SnappyEnabled - invalid bool value type float64`},
		{`statsd_udp_packet_size = "s"`, ``, `Resolve failed to coerce value s (508) for field StatsdUDPPacketSize - strconv.ParseInt: parsing "s": invalid syntax`},
		{`e2e_processing_latency_percentiles = "0.5,x"`, ``, `Resolve failed to coerce value 0.5,x ([]) for field E2EProcessingLatencyPercentiles - strconv.ParseFloat: parsing "x": invalid syntax`},
		{`e2e_processing_latency_percentiles = [1]`, ``, `Resolve failed to coerce value [1] ([]) for field E2EProcessingLatencyPercentiles - invalid list element type int64`},
		{`nsqlookupd_tcp_addresses = [1]`, ``, `Resolve failed to coerce value [1] ([]) for field NSQLookupdTCPAddresses - invalid list element type int64`},
		{`broadcast_address = 5`, ``, `Resolve failed to coerce value 5 (HOST) for field BroadcastAddress - invalid string value type int64`},
	}
	o := Default()
	id, err := json.Marshal(o.ID)
	require.NoError(t, err)
	for _, c := range cases {
		path := writeConfig(t, c.text)
		_, exit := Load("nsqd", []string{"-config", path})
		require.NotNil(t, exit, c.text)
		require.Equal(t, 1, exit.Code, c.text)
		require.Equal(t, strings.ReplaceAll(c.fatal, "FILE", path), exit.Fatal, c.text)
		if c.stderr == "" {
			require.Empty(t, exit.Stderr, c.text)
			continue
		}
		want := strings.NewReplacer("(ID)", "("+string(id)+")", "(HOST)", "("+o.BroadcastAddress+")").Replace(c.stderr)
		require.Equal(t, "ERROR: "+want+"\n", exit.Stderr[len("2026/11/23 07:04:49 "):], c.text)
	}
}

func TestWordsOfTheFileAreCheckedEvenBelowAFlag(t *testing.T) {
	path := writeConfig(t, `log_level = "bad"`)
	_, exit := Load("nsqd", []string{"-config", path, "-log-level", "info"})
	require.Equal(t, "failed parsing log_level bad", exit.Fatal)
	path = writeConfig(t, "log_level = \"error\"\nmem_queue_size = \"bad\"")
	o := load(t, "-config", path, "-log-level", "debug", "-mem-queue-size", "5")
	require.Equal(t, logging.Debug, o.LogLevel)
	require.EqualValues(t, 5, o.MemQueueSize)
}

func TestMissingFile(t *testing.T) {
	_, exit := Load("nsqd", []string{"-config", "/does/not/exist"})
	require.Equal(t, 1, exit.Code)
	require.Equal(t, "failed to load config file /does/not/exist - open /does/not/exist: no such file or directory", exit.Fatal)
}

func TestNodeIDIsAHashOfTheHostname(t *testing.T) {
	require.EqualValues(t, 617, NodeID("vm"))
}

func TestValidate(t *testing.T) {
	cases := []struct{ args, want string }{
		{"", ""},
		{"-max-deflate-level 0 -node-id 5000", "--max-deflate-level must be [1,9]"},
		{"-node-id 1024 -auth-http-request-method GET", "--node-id must be [0,1024)"},
		{"-tls-required -auth-http-request-method GET", "cannot require TLS client connections without TLS key and cert"},
		{"-tls-client-auth-policy foo", "cannot require TLS client connections without TLS key and cert"},
		{"-tls-cert no.pem -tls-required", "failed to build TLS config - open no.pem: no such file or directory"},
		{"-tls-key no.pem -node-id 5000", "--node-id must be [0,1024)"},
		{"-tls-key no.pem", "failed to build TLS config - open : no such file or directory"},
		{"-tls-root-ca-file no.pem", "failed to build client TLS config - open no.pem: no such file or directory"},
		{"-tls-root-ca-file options_test.go -auth-http-request-method x", "failed to build client TLS config - failed to append certificate to pool"},
		{"-tls-min-version tls1.2", ""},
		{"-max-tls-handshakes -1", "--max-tls-handshakes must be at least 0"},
		{"-auth-http-request-method GET", "--auth-http-request-method must be post or get"},
		{"-e2e-processing-latency-percentile 1.5", "invalid E2E processing latency percentile: 1.5"},
		{"-e2e-processing-latency-percentile 0", "invalid E2E processing latency percentile: 0"},
		{"-tls-required=false -deflate=false -https-address= -statsd-interval 5s -enable-experiment other -topology-zone z", ""},
		{"-max-msg-size 0", "--max-msg-size must be at least 1"},
		{"-loops -1", "--loops must be at least 0"},
		{"-sync-timeout 0s", "--sync-timeout must be positive"},
		{"-statsd-interval 0s", "--statsd-interval must be positive"},
		{"-statsd-udp-packet-size 0", "--statsd-udp-packet-size must be at least 1"},
		{"-magic-timeout -1s", "--magic-timeout must not be negative"},
		{"-enable-experiment topology-aware-consumption", "--enable-experiment=topology-aware-consumption is not supported yet by this version"},
	}
	for _, c := range cases {
		err := load(t, strings.Fields(c.args)...).Validate()
		if c.want == "" {
			require.NoError(t, err, c.args)
		} else {
			require.EqualError(t, err, c.want, c.args)
		}
	}
}

func TestNotes(t *testing.T) {
	require.Empty(t, load(t).Notes())
	notes := load(t, "-queue-scan-worker-pool-max=9", "-queue-scan-selection-count=1").Notes()
	require.Len(t, notes, 1)
	require.Contains(t, notes[0], "--queue-scan-worker-pool-max, --queue-scan-selection-count: accepted")
}

func TestBound(t *testing.T) {
	cases := []struct {
		args             string
		tcp, http        int
		wantTCP, wantTTP int
		prefix           string
	}{
		{"-broadcast-address 127.0.0.1", 4150, 4151, 4150, 4151, "nsq.127_0_0_1_4151."},
		{"-broadcast-address a.b-c:d", -1, -1, 0, 0, "nsq.[a_b-c_d]_0."},
		{"-broadcast-address vm -broadcast-http-port 77 -statsd-prefix a%sb.", 1, 2, 1, 77, "avm_77b."},
		{"-broadcast-address vm -broadcast-tcp-port 5 -statsd-prefix=", 1, 2, 5, 2, ""},
		{"-broadcast-address vm -statsd-prefix x", 1, 2, 1, 2, "x."},
		{"-broadcast-address vm -statsd-prefix %s.%s", 1, 2, 1, 2, "vm_2.vm_2."},
	}
	for _, c := range cases {
		o := load(t, strings.Fields(c.args)...)
		o.Bound(c.tcp, c.http)
		require.Equal(t, c.wantTCP, o.BroadcastTCPPort, c.args)
		require.Equal(t, c.wantTTP, o.BroadcastHTTPPort, c.args)
		require.Equal(t, c.prefix, o.StatsdPrefix, c.args)
	}
}
