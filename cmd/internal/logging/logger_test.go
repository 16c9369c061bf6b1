package logging

import (
	"bytes"
	"encoding/json"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestTextLine(t *testing.T) {
	var out bytes.Buffer
	l := New(&out, "[nsqd] ", Info, Text)
	l.Debugf("not %s", "written")
	l.Infof("TCP: listening on %s", "127.0.0.1:4150")
	l.Warnf("a")
	l.Errorf("b")
	l.Fatalf("c")
	require.Regexp(t, `^\[nsqd\] \d{4}/\d\d/\d\d \d\d:\d\d:\d\d\.\d{6} INFO: TCP: listening on 127\.0\.0\.1:4150
\[nsqd\] \S+ \S+ WARNING: a
\[nsqd\] \S+ \S+ ERROR: b
\[nsqd\] \S+ \S+ FATAL: c
$`, out.String())
}

func TestTextTimeHasSixDigits(t *testing.T) {
	at := time.Date(2026, 11, 23, 6, 44, 20, 233060000, time.Local)
	require.Equal(t, "p2026/11/23 06:44:20.233060 INFO: x\n", string(appendText(nil, "p", at, Info, "x")))
}

func TestClientTextCannotForgeALine(t *testing.T) {
	var out bytes.Buffer
	New(&out, "", Info, Text).Infof("value '%s'", "a\n[nsqd] FATAL: forged\r")
	require.Equal(t, 1, bytes.Count(out.Bytes(), []byte("\n")))
	require.Contains(t, out.String(), `value 'a\n[nsqd] FATAL: forged\r'`)
}

func TestJSONLine(t *testing.T) {
	var out bytes.Buffer
	l := New(&out, "[nsqd] ", Warn, JSON)
	l.Infof("no")
	l.Warnf("say %q", "hi\n")
	var line struct {
		Time    time.Time `json:"time"`
		Level   string    `json:"level"`
		Message string    `json:"message"`
	}
	require.NoError(t, json.Unmarshal(out.Bytes(), &line))
	require.Equal(t, "WARNING", line.Level)
	require.Equal(t, `say "hi\n"`, line.Message)
	require.WithinDuration(t, time.Now(), line.Time, time.Minute)
	require.True(t, bytes.HasSuffix(out.Bytes(), []byte("}\n")))
}

func TestLevelChangesAtRunTime(t *testing.T) {
	var out bytes.Buffer
	l := New(&out, "", Error, Text)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 100 {
				l.Infof("x")
			}
		})
	}
	l.SetLevel(Debug)
	wg.Wait()
	l.Debugf("now")
	require.Contains(t, out.String(), "DEBUG: now\n")
	require.Equal(t, Debug, l.Level())
}

func TestLevelsAndFormats(t *testing.T) {
	for s, want := range map[string]Level{"debug": Debug, "Info": Info, "WARN": Warn, "error": Error, "fatal": Fatal} {
		got, err := ParseLevel(s)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	_, err := ParseLevel("warning")
	require.EqualError(t, err, "invalid log level 'warning' (debug, info, warn, error, fatal)")
	_, err = ParseFormat("xml")
	require.EqualError(t, err, "invalid log format 'xml' (text, json)")
	f, err := ParseFormat("json")
	require.NoError(t, err)
	require.Equal(t, "json", f.String())
}

func TestStartupFatalKeepsTheDefaultPrefix(t *testing.T) {
	var out bytes.Buffer
	StartupFatal(&out, "nsqd", Text, "no such 100%")
	require.Regexp(t, `^\[nsqd\] \S+ \S+ FATAL: no such 100%\n$`, out.String())
}
