package compat

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// A conversation is one "==" section of a script file, parsed but not yet
// expanded. It is never changed after parsing: several runs share it.
type conversation struct {
	file  string
	title string
	rows  []string
	flags []string
	own   bool   // has a daemon for itself
	group string // otherwise shares one with those of this group
	slow  string // why -short leaves it out
	// repeat is how often one run plays it, 1 unless written.
	repeat int
	steps  []step
}

// A step is one line of a script.
type step struct {
	line       int
	text       string // as written, for reports
	difference string // id in the list of differences, or empty
	variant    string // "stock" or "ours" when difference is set
	conn       string // connection, or empty for steps about the daemon
	verb       string // ">", "<", or the word of the step
	count      int    // how often, 1 unless written
	arg        string
}

var (
	trafficLine = regexp.MustCompile(`^([a-z])(?:\*([0-9]+))?([<>]) (.*)$`)
	connLine    = regexp.MustCompile(`^([a-z]) (dial|fence|half-close|close|stall|resume|drain|skip messages|skip heartbeats|raw|anonymous)$`)
	daemonLine  = regexp.MustCompile(`^(pause|http|stats|limit-file-size|sigterm|restart|file)(?: (.*))?$`)
	variantLine = regexp.MustCompile(`^\[([a-z0-9-]+)\] (stock|ours): *(.*)$`)
	headerLine  = regexp.MustCompile(`^(rows|flags|daemon|slow|repeat): *(.*)$`)
)

// loadConversations reads every script below testdata, in the order of their names.
func loadConversations() ([]*conversation, error) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil {
		return nil, err
	}
	var all []*conversation
	for _, file := range files {
		if filepath.Base(file) == "rows.txt" {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		parsed, err := parseScript(filepath.Base(file), string(text))
		if err != nil {
			return nil, err
		}
		all = append(all, parsed...)
	}
	return all, nil
}

func parseScript(file, text string) ([]*conversation, error) {
	var all []*conversation
	var current *conversation
	for n, line := range strings.Split(text, "\n") {
		line = strings.TrimLeft(line, " ")
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
			continue
		case strings.HasPrefix(line, "== "):
			current = &conversation{file: file, title: strings.TrimPrefix(line, "== "), repeat: 1}
			all = append(all, current)
			continue
		case current == nil:
			return nil, fmt.Errorf("%s:%d: text before the first ==", file, n+1)
		}
		if err := current.add(n+1, line); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", file, n+1, err)
		}
	}
	return all, nil
}

func (c *conversation) add(number int, line string) error {
	if m := headerLine.FindStringSubmatch(line); m != nil && len(c.steps) == 0 {
		return c.addHeader(m[1], m[2])
	}
	s := step{line: number, text: line, count: 1}
	if m := variantLine.FindStringSubmatch(line); m != nil {
		s.difference, s.variant, line = m[1], m[2], m[3]
	}
	if m := trafficLine.FindStringSubmatch(line); m != nil {
		s.conn, s.verb, s.arg = m[1], m[3], m[4]
		if m[2] != "" {
			if _, err := fmt.Sscan(m[2], &s.count); err != nil {
				return err
			}
		}
	} else if m := connLine.FindStringSubmatch(line); m != nil {
		s.conn, s.verb = m[1], m[2]
	} else if m := daemonLine.FindStringSubmatch(line); m != nil {
		s.verb, s.arg = m[1], m[2]
	} else {
		return fmt.Errorf("not a step: %q", line)
	}
	c.steps = append(c.steps, s)
	return nil
}

func (c *conversation) addHeader(key, value string) error {
	switch key {
	case "rows":
		c.rows = append(c.rows, strings.Fields(value)...)
	case "flags":
		c.flags = strings.Fields(value)
	case "daemon":
		switch value {
		case "own":
			c.own = true
		case "timed":
			c.group = value
		default:
			return fmt.Errorf("unknown daemon %q", value)
		}
	case "repeat":
		n, err := strconv.Atoi(value)
		c.repeat = n
		return err
	case "slow":
		c.slow = value
	}
	return nil
}

// name is the title in the form of a test name.
func (c *conversation) name() string {
	return strings.ReplaceAll(c.title, " ", "_")
}

var timeWords = regexp.MustCompile(`^silence |"heartbeat_interval":|"msg_timeout":`)

// timed says whether the script makes a statement about time, or starts a clock
// that a slow play may lose against.
func (c *conversation) timed() bool {
	if c.group == "timed" {
		return true
	}
	for _, s := range c.steps {
		if s.verb == "pause" || boundsPrefix.MatchString(s.arg) || timeWords.MatchString(s.arg) {
			return true
		}
	}
	return false
}

// stalls says whether the script ever stalls this connection.
func (c *conversation) stalls(conn string) bool {
	for _, s := range c.steps {
		if s.conn == conn && s.verb == "stall" {
			return true
		}
	}
	return false
}
