package options

import (
	"testing"
	"time"

	"github.com/nsqloop/nsqloop/cmd/internal/logging"
	"github.com/stretchr/testify/require"
)

func loadLookupd(t *testing.T, args ...string) *Nsqlookupd {
	t.Helper()
	o, exit := LoadLookupd("nsqlookupd", args)
	require.Nil(t, exit)
	return o
}

func TestLookupdDefaults(t *testing.T) {
	o := loadLookupd(t)
	require.Equal(t, "[nsqlookupd] ", o.LogPrefix)
	require.Equal(t, "0.0.0.0:4160", o.TCPAddress)
	require.Equal(t, "0.0.0.0:4161", o.HTTPAddress)
	require.Equal(t, 5*time.Minute, o.InactiveProducerTimeout)
	require.Equal(t, 45*time.Second, o.TombstoneLifetime)
	require.Equal(t, hostname(), o.BroadcastAddress)
	require.NoError(t, o.Validate())
}

func TestLookupdFileAndFlags(t *testing.T) {
	path := writeConfig(t, `
tcp_address = "a:1"
http_address = "b:2"
broadcast_address = "c"
log_prefix = "p"
log_level = "warn"
log_format = "json"
inactive_producer_timeout = 1500
tombstone_lifetime = "2m"
max_topics = 7
unknown = true
tls_required = "nonsense that is not a key here"
`)
	o := loadLookupd(t, "-config", path, "-max-topics=9", "-verbose")
	require.Equal(t, []string{"a:1", "b:2", "c", "p"}, []string{o.TCPAddress, o.HTTPAddress, o.BroadcastAddress, o.LogPrefix})
	require.Equal(t, logging.Warn, o.LogLevel)
	require.Equal(t, logging.JSON, o.LogFormat)
	require.Equal(t, 1500*time.Millisecond, o.InactiveProducerTimeout)
	require.Equal(t, 2*time.Minute, o.TombstoneLifetime)
	require.Equal(t, 9, o.MaxTopics)

	_, exit := LoadLookupd("nsqlookupd", []string{"-config", writeConfig(t, `tombstone_lifetime = "60"`)})
	require.Contains(t, exit.Stderr, `ERROR: Resolve failed to coerce value 60 (45s) for field TombstoneLifetime - time: missing unit in duration "60"`)
	_, exit = LoadLookupd("nsqlookupd", []string{"-max-rdy-count", "1"})
	require.Equal(t, 2, exit.Code)
}

func TestLookupdValidate(t *testing.T) {
	for args, want := range map[string]string{
		"-max-connections=-1":    "--max-connections must be at least 0",
		"-max-channels=0":        "--max-channels must be at least 1",
		"-max-line-size=100":     "--max-line-size must be at least 256",
		"-max-identify-size=100": "--max-identify-size must be at least 1024",
		"-magic-timeout=-1s":     "--magic-timeout must not be negative",
	} {
		require.EqualError(t, loadLookupd(t, args).Validate(), want)
	}
}
