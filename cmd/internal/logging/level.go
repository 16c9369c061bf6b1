package logging

import (
	"fmt"
	"strings"
)

// Level orders log lines. The numbers are part of the HTTP API: GET /config/log_level answers with them.
type Level int32

// The five levels, as --log-level names them in lower case.
const (
	Debug Level = iota + 1
	Info
	Warn
	Error
	Fatal
)

// String is the word in a log line. Warn prints as WARNING although its flag value is warn.
func (l Level) String() string {
	switch l {
	case Debug:
		return "DEBUG"
	case Info:
		return "INFO"
	case Warn:
		return "WARNING"
	case Error:
		return "ERROR"
	case Fatal:
		return "FATAL"
	}
	return fmt.Sprintf("LEVEL(%d)", int32(l))
}

// ParseLevel accepts the flag values in any letter case. "warning" is refused, as the stock daemon refuses it.
func ParseLevel(s string) (Level, error) {
	switch strings.ToLower(s) {
	case "debug":
		return Debug, nil
	case "info":
		return Info, nil
	case "warn":
		return Warn, nil
	case "error":
		return Error, nil
	case "fatal":
		return Fatal, nil
	}
	return 0, fmt.Errorf("invalid log level '%s' (debug, info, warn, error, fatal)", s)
}

// Format is the shape of a log line.
type Format int

// Text is the stock daemon's line; JSON is one object a line.
const (
	Text Format = iota
	JSON
)

// ParseFormat accepts the values of --log-format.
func ParseFormat(s string) (Format, error) {
	switch s {
	case "text":
		return Text, nil
	case "json":
		return JSON, nil
	}
	return 0, fmt.Errorf("invalid log format '%s' (text, json)", s)
}

// String is the flag value.
func (f Format) String() string {
	if f == JSON {
		return "json"
	}
	return "text"
}
