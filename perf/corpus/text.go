package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/nsqloop/nsqloop/perf/ledger"
)

// text is every line that is published: line n, from 0, is "n+1: " and the line as it stands in its file, without the line end.
type text struct {
	bytes []byte
	ends  []uint32 // ends[n] is where line n ends in bytes
}

// goSource is where the Go distribution that builds this project keeps its source.
func goSource(ctx context.Context) (string, error) {
	root, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOROOT: %w", err)
	}
	return filepath.Join(string(bytes.TrimSpace(root)), "src"), nil
}

// readText collects the .go files under root in lexical order, without their empty lines, until max lines are there; 0 is all of them.
func readText(root string, max int) (*text, error) {
	t := &text{}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if !entry.Type().IsRegular() || !strings.HasSuffix(path, ".go") {
			return nil
		}
		return t.addFile(path, max)
	})
	return t, err
}

func (t *text) addFile(path string, max int) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	lines := bufio.NewReader(bytes.NewReader(content))
	for err == nil {
		var line []byte
		line, err = lines.ReadBytes('\n')
		line = bytes.TrimSuffix(line, []byte("\n"))
		if len(line) == 0 {
			continue
		}
		t.bytes = strconv.AppendInt(t.bytes, int64(len(t.ends)+1), 10)
		t.bytes = append(append(t.bytes, ": "...), line...)
		t.ends = append(t.ends, uint32(len(t.bytes)))
		if len(t.ends) == max {
			return fs.SkipAll
		}
	}
	return nil // the only error of a reader of bytes is the end
}

func (t *text) line(n int) []byte {
	start := uint32(0)
	if n > 0 {
		start = t.ends[n-1]
	}
	return t.bytes[start:t.ends[n]:t.ends[n]]
}

// The lines are dealt to the producers one by one: producer p sends line counter x producers + p.
type deal struct {
	*text
	producers int
}

// lines is the number of lines of a producer.
func (d deal) lines(producer int) int {
	return (len(d.ends) - producer + d.producers - 1) / d.producers
}

// Append implements ledger.Bodies.
func (d deal) Append(dst []byte, key ledger.Key) []byte {
	return append(dst, d.line(int(key.Counter)*d.producers+int(key.Producer))...)
}

// Key implements ledger.Bodies.
func (d deal) Key(body []byte) (ledger.Key, bool) {
	digits, _, _ := bytes.Cut(body[:min(len(body), 12)], []byte(":"))
	n, err := strconv.Atoi(string(digits))
	if err != nil || n < 1 || n > len(d.ends) {
		return ledger.Key{}, false
	}
	n--
	return ledger.Key{Producer: uint32(n % d.producers), Counter: uint32(n / d.producers)}, true
}
