package compat

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// optionDefaults are the options of queueing.md 11.3 and what GET /config answers of a daemon that was given none of them. Those of
// tcp-protocol.md 13 prove a row of that list too.
var optionDefaults = []struct{ flag, key, value string }{
	{"log-level", "", "2"}, {"log-prefix", "", "[nsqd] "},
	{"https-address", "", "0.0.0.0:4152"},
	{"lookupd-tcp-address", "nsqlookupd_tcp_addresses", "[]"},
	{"auth-http-address", "auth_http_addresses", "[]"}, {"auth-http-request-method", "", "get"},
	{"http-client-connect-timeout", "", "2000000000"}, {"http-client-request-timeout", "", "5000000000"},
	{"topology-region", "", ""}, {"topology-zone", "", ""},
	{"mem-queue-size", "", "10000"}, {"max-bytes-per-file", "", "104857600"}, {"sync-timeout", "", "2000000000"},
	{"queue-scan-worker-pool-max", "", "4"}, {"queue-scan-selection-count", "", "20"},
	{"msg-timeout", "", "60000000000"}, {"max-msg-timeout", "", "900000000000"}, {"max-req-timeout", "", "3600000000000"},
	{"max-msg-size", "", "1048576"}, {"max-body-size", "", "5242880"},
	{"max-heartbeat-interval", "", "60000000000"}, {"max-rdy-count", "", "2500"}, {"max-channel-consumers", "", "0"},
	{"max-output-buffer-size", "", "65536"}, {"output-buffer-timeout", "", "250000000"},
	{"min-output-buffer-timeout", "", "25000000"}, {"max-output-buffer-timeout", "", "30000000000"},
	{"statsd-address", "", ""}, {"statsd-interval", "", "60000000000"},
	{"statsd-mem-stats", "", "true"}, {"statsd-udp-packet-size", "", "508"}, {"statsd-exclude-ephemeral", "", "false"},
	{"e2e-processing-latency-percentile", "e2e_processing_latency_percentiles", "[]"},
	{"e2e-processing-latency-window-time", "", "600000000000"},
	{"tls-cert", "", ""}, {"tls-key", "", ""}, {"tls-root-ca-file", "", ""}, {"tls-client-auth-policy", "", ""},
	{"tls-required", "", "0"}, {"tls-min-version", "", "769"},
	{"deflate", "", "true"}, {"max-deflate-level", "", "6"}, {"snappy", "", "true"}, {"enable-experiment", "", "[]"},
}

// limitRows are the options that tcp-protocol.md 13 lists as well.
const limitRows = " max-msg-size max-body-size max-rdy-count max-channel-consumers msg-timeout max-msg-timeout max-req-timeout max-heartbeat-interval" +
	" output-buffer-timeout min-output-buffer-timeout max-output-buffer-timeout max-output-buffer-size max-deflate-level http-client-connect-timeout" +
	" http-client-request-timeout "

// filedOptions are values of a configuration file, and what GET /config answers then.
var filedOptions = []struct{ row, line, key, value string }{
	{"q11.3.node-id", "id = 77", "id", "77"},
	{"q11.3.toml-duration", `msg_timeout = "90s"`, "msg_timeout", "90000000000"},
	{"q11.3.toml-duration", "max_msg_timeout = 120000", "max_msg_timeout", "120000000000"},
	{"q11.3.toml-number", `mem_queue_size = "12"`, "mem_queue_size", "12"},
	{"q11.3.toml-number", "max_rdy_count = 9", "max_rdy_count", "9"},
	{"q11.3.toml-list", `e2e_processing_latency_percentiles = [0.5, 0.99]`, "e2e_processing_latency_percentiles", "[0.5,0.99]"},
	{"q11.3.toml-list", `auth_http_addresses = "a:1,b:2"`, "auth_http_addresses", `["a:1","b:2"]`},
	{"q11.3.toml-bool", "deflate = false", "deflate", "false"},
	{"q11.3.toml-bool", `statsd_exclude_ephemeral = "T"`, "statsd_exclude_ephemeral", "true"},
	{"q11.3.toml-bool", "snappy = 1", "snappy", "false"},
	{"q11.3.toml-bool", "statsd_mem_stats = 0", "statsd_mem_stats", "true"},
	{"q11.3.toml-tls", `tls_min_version = ""`, "tls_min_version", "769"},
	{"q11.3.toml-tls", `tls_required = false`, "tls_required", "0"},
	{"q11.3.broadcast-address", `broadcast_address = "there"`, "broadcast_address", "there"},
	{"q11.3.unknown", "of_no_option = 1", "of_no_option", `{"message":"INVALID_OPTION"}`},
	{"q11.3.flag-only", `verbose = "x"`, "verbose", `{"message":"INVALID_OPTION"}`},
	{"q11.3.precedence", "max_msg_size = 5", "max_msg_size", "1000"}, // the flag, see TestOptions
}

// optionRows are proved by TestOptions.
func optionRows() []string {
	rows := []string{"q11.3.data-path", "q11.3.tcp-address", "q11.3.http-address", "q11.3.broadcast-ports", "q11.3.statsd-prefix", "q11.3.sync-every"}
	for _, o := range optionDefaults {
		rows = append(rows, "q11.3."+o.flag)
		if strings.Contains(limitRows, " "+o.flag+" ") {
			rows = append(rows, "13."+o.flag)
		}
	}
	for _, o := range filedOptions {
		rows = append(rows, o.row)
	}
	return rows
}

// TestOptions asks a daemon without options for all of them, and one with a configuration file.
func TestOptions(t *testing.T) {
	t.Parallel()
	p := findPeer(t)
	t.Run("defaults", func(t *testing.T) {
		d := ownDaemon(t, p)
		for _, o := range optionDefaults {
			require.Equal(t, o.value, configValue(t, d, keyOf(o.flag, o.key)), o.flag)
		}
		// Those that every daemon of this suite is given.
		require.Equal(t, d.dir, configValue(t, d, "data_path"))
		require.Equal(t, "127.0.0.1:0", configValue(t, d, "tcp_address"))
		require.Equal(t, "127.0.0.1:0", configValue(t, d, "http_address"))
		syncEvery := "2500"
		if p.variant == "ours" {
			syncEvery = "0"
		}
		require.Equal(t, syncEvery, configValue(t, d, "sync_every"))
		require.Regexp(t, `^nsq\.\S+_\d+\.$`, configValue(t, d, "statsd_prefix"))
		// 0 becomes the port that is listened on.
		require.Equal(t, d.tcp, "127.0.0.1:"+configValue(t, d, "broadcast_tcp_port"))
		require.Equal(t, d.http, "127.0.0.1:"+configValue(t, d, "broadcast_http_port"))
	})
	t.Run("file", func(t *testing.T) {
		var text strings.Builder
		for _, o := range filedOptions {
			text.WriteString(o.line + "\n")
		}
		path := filepath.Join(t.TempDir(), "nsqd.toml")
		require.NoError(t, os.WriteFile(path, []byte(text.String()), 0o600))
		d := ownDaemon(t, p, "--config="+path, "--max-msg-size=1000")
		for _, o := range filedOptions {
			require.Equal(t, o.value, configValue(t, d, o.key), o.line)
		}
	})
}

func keyOf(flag, key string) string {
	if key == "" {
		return strings.ReplaceAll(flag, "-", "_")
	}
	return key
}

func configValue(t *testing.T, d *daemon, key string) string {
	t.Helper()
	resp, err := httpClient.Get("http://" + d.http + "/config/" + key)
	require.NoError(t, err)
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Contains(t, []int{http.StatusOK, http.StatusBadRequest}, resp.StatusCode)
	return string(body)
}
