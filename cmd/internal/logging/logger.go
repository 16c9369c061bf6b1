// Package logging writes the daemons' log: one line per event on one writer, in the stock daemon's text form or as JSON.
//
//	[nsqd] 2026/11/23 06:44:20.233060 INFO: NSQ: bye
//	{"time":"2026-11-23T06:44:20.23306Z","level":"INFO","message":"NSQ: bye"}
package logging

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const textTime = "2006/01/02 15:04:05.000000 "

// Logger writes lines whose level is at least the configured one. All methods may be called from any goroutine; the level may change
// at run time, prefix and format are fixed.
type Logger struct {
	level  atomic.Int32
	prefix string
	format Format

	mu  sync.Mutex // owns out and buf: a line is one Write
	out io.Writer
	buf []byte
}

// New makes a logger on out. prefix begins every text line and is not part of JSON lines.
func New(out io.Writer, prefix string, level Level, format Format) *Logger {
	l := &Logger{prefix: prefix, format: format, out: out}
	l.level.Store(int32(level))
	return l
}

// Level is the lowest level that is written.
func (l *Logger) Level() Level { return Level(l.level.Load()) }

// SetLevel changes the lowest level that is written, at once and for all goroutines.
func (l *Logger) SetLevel(level Level) { l.level.Store(int32(level)) }

// Debugf writes a line at DEBUG.
func (l *Logger) Debugf(format string, args ...any) { l.Logf(Debug, format, args...) }

// Infof writes a line at INFO.
func (l *Logger) Infof(format string, args ...any) { l.Logf(Info, format, args...) }

// Warnf writes a line at WARNING.
func (l *Logger) Warnf(format string, args ...any) { l.Logf(Warn, format, args...) }

// Errorf writes a line at ERROR.
func (l *Logger) Errorf(format string, args ...any) { l.Logf(Error, format, args...) }

// Fatalf writes a line at FATAL. It does not end the process: that is for the caller, who may have something to close.
func (l *Logger) Fatalf(format string, args ...any) { l.Logf(Fatal, format, args...) }

// At returns a function that writes lines at level.
func (l *Logger) At(level Level) func(format string, args ...any) {
	return func(format string, args ...any) { l.Logf(level, format, args...) }
}

// Logf writes a line at level.
func (l *Logger) Logf(level Level, format string, args ...any) {
	if level < l.Level() {
		return
	}
	now := time.Now()
	text := fmt.Sprintf(format, args...)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.format == JSON {
		l.buf = appendJSON(l.buf[:0], now, level, text)
	} else {
		l.buf = appendText(l.buf[:0], l.prefix, now, level, text)
	}
	// A log that cannot be written (closed pipe, full disk behind stderr) has no other place to be reported and must not stop the broker.
	_, _ = l.out.Write(l.buf)
}

func appendText(b []byte, prefix string, now time.Time, level Level, text string) []byte {
	b = append(b, prefix...)
	b = now.AppendFormat(b, textTime)
	b = append(b, level.String()...)
	b = append(b, ": "...)
	b = append(b, oneLine.Replace(text)...)
	return append(b, '\n')
}

// oneLine keeps what clients send from forging further log lines.
var oneLine = strings.NewReplacer("\n", `\n`, "\r", `\r`)

func appendJSON(b []byte, now time.Time, level Level, text string) []byte {
	b = append(b, `{"time":"`...)
	b = now.AppendFormat(b, time.RFC3339Nano)
	b = append(b, `","level":"`...)
	b = append(b, level.String()...)
	b = append(b, `","message":`...)
	quoted, err := json.Marshal(text)
	if err != nil {
		// A string always marshals; keep the line rather than the promise.
		quoted = []byte(`"unprintable message"`)
	}
	b = append(b, quoted...)
	return append(b, '}', '\n')
}

// StartupFatal writes the line of a failure before the logger exists. It carries program's default prefix whatever --log-prefix says,
// because scripts look for it there.
func StartupFatal(out io.Writer, program string, format Format, text string) {
	New(out, "["+program+"] ", Fatal, format).Fatalf("%s", text)
}
