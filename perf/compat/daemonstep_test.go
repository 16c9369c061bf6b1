package compat

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

var httpClient = &http.Client{Timeout: 20 * time.Second}

// daemonStep plays a step that is about the daemon, not about a connection.
func (p *player) daemonStep(s *step) error {
	p.note("%s", s.text)
	err := p.daemonVerb(s)
	p.began, p.done = time.Now(), time.Now()
	return err
}

func (p *player) daemonVerb(s *step) error {
	switch s.verb {
	case "pause":
		d, err := time.ParseDuration(s.arg)
		time.Sleep(d)
		return err
	case "http":
		return p.httpStep(s.arg)
	case "stats":
		return p.statsStep(s.arg)
	case "limit-file-size":
		n, err := strconv.ParseUint(s.arg, 10, 64)
		if err != nil {
			return err
		}
		return p.daemon.limitFileSize(n)
	case "sigterm":
		return p.daemon.terminate()
	case "restart":
		return p.restart(s.arg)
	case "file":
		return p.fileStep(s.arg)
	}
	return fmt.Errorf("unknown step %q", s.verb)
}

// restart ends the daemon, by SIGTERM or, with "kill", by SIGKILL, and starts it
// again on the same data path. Connections of before are gone: their letters
// open new ones.
func (p *player) restart(how string) error {
	var err error
	if how == "kill" {
		p.daemon.damaged = true
		err = p.daemon.kill()
	} else {
		err = p.daemon.terminate()
	}
	if err != nil {
		return err
	}
	for name, c := range p.conns {
		if err := c.close(); err != nil {
			return err
		}
		delete(p.conns, name)
	}
	d, err := startDaemonIn(p.peer, p.daemon.dir, p.conv.flags)
	if err != nil {
		return err
	}
	p.daemon = d
	p.restarted = append(p.restarted, d)
	return nil
}

// endRestarted stops what restart started.
func (p *player) endRestarted() error {
	var errs []error
	for _, d := range p.restarted {
		if d.damaged {
			errs = append(errs, d.kill())
		} else {
			errs = append(errs, d.terminate())
		}
	}
	return errors.Join(errs...)
}

// fileStep is "NAME REGEXP" and waits until the whole content of the file NAME
// of the data path matches.
func (p *player) fileStep(arg string) error {
	name, pattern, _ := strings.Cut(arg, " ")
	re, err := regexp.Compile(`^(?:` + pattern + `)$`)
	if err != nil {
		return err
	}
	for deadline := time.Now().Add(p.patience); ; time.Sleep(10 * time.Millisecond) {
		text, err := os.ReadFile(filepath.Join(p.daemon.dir, name))
		if err == nil && re.Match(text) {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("expected in %s: %s\n    got      %q, %v", name, pattern, text, err)
		}
	}
}

// httpStep is "METHOD PATH [:: BODY] [-> STATUS] [=> REGEXP]".
func (p *player) httpStep(arg string) error {
	want := http.StatusOK
	arg, pattern, _ := strings.Cut(arg, " => ")
	answer, err := regexp.Compile(`^(?s:` + pattern + `)$`)
	if err != nil {
		return err
	}
	if rest, status, ok := strings.Cut(arg, " -> "); ok {
		n, err := strconv.Atoi(status)
		if err != nil {
			return err
		}
		arg, want = rest, n
	}
	request, body, _ := strings.Cut(arg, " :: ")
	method, path, _ := strings.Cut(request, " ")
	expandedPath, err := expand(path, p.vars)
	if err != nil {
		return err
	}
	expandedBody, err := expand(body, p.vars)
	if err != nil {
		return err
	}
	req, err := http.NewRequest(method, "http://"+p.daemon.http+string(expandedPath), bytes.NewReader(expandedBody))
	if err != nil {
		return err
	}
	status, reply, err := roundTrip(req)
	if err != nil {
		return err
	}
	if status != want {
		return fmt.Errorf("expected status %d\n    got      %d %s", want, status, reply)
	}
	if pattern != "" && !answer.Match(reply) {
		return fmt.Errorf("expected body %s\n    got      %s", pattern, reply)
	}
	return nil
}

func roundTrip(req *http.Request) (int, []byte, error) {
	resp, err := httpClient.Do(req)
	if err != nil {
		return 0, nil, err
	}
	body, err := io.ReadAll(resp.Body)
	if closeErr := resp.Body.Close(); err == nil {
		err = closeErr
	}
	return resp.StatusCode, body, err
}

// statsStep is "TOPIC PATH OP JSON" and waits until it holds: what a connection
// was told and what the counters say need not happen in one instant.
func (p *player) statsStep(arg string) error {
	fields := strings.SplitN(arg, " ", 4)
	if len(fields) != 4 {
		return fmt.Errorf("expected TOPIC PATH OP VALUE, not %q", arg)
	}
	topic, err := expand(fields[0], p.vars)
	if err != nil {
		return err
	}
	want, err := expand(fields[3], p.vars)
	if err != nil {
		return err
	}
	url := "http://" + p.daemon.http + "/stats?format=json&topic=" + strings.ReplaceAll(string(topic), "#", "%23")
	for deadline := time.Now().Add(p.patience); ; time.Sleep(10 * time.Millisecond) {
		got, err := statsValue(url, fields[1])
		if err != nil {
			return err
		}
		holds, err := compare(got, fields[2], string(want))
		if err != nil || holds {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("expected %s %s %s in the stats\n    got      %s", fields[1], fields[2], want, got)
		}
	}
}

// statsValue is the JSON text of the value at path, "nothing" if there is none.
func statsValue(url, path string) (string, error) {
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	status, body, err := roundTrip(req)
	if err != nil {
		return "", err
	}
	var root any
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber()
	if err := decoder.Decode(&root); err != nil || status != http.StatusOK {
		return "", fmt.Errorf("GET %s: status %d, %w", url, status, err)
	}
	value, ok := walk(root, strings.Split(path, "."))
	if !ok {
		return "nothing", nil
	}
	text, err := json.Marshal(value)
	return string(text), err
}

func walk(value any, path []string) (any, bool) {
	for _, key := range path {
		switch node := value.(type) {
		case map[string]any:
			next, ok := node[key]
			if !ok {
				return nil, false
			}
			value = next
		case []any:
			if key == "#" {
				value = json.Number(strconv.Itoa(len(node)))
				continue
			}
			i, err := strconv.Atoi(key)
			if err != nil || i >= len(node) {
				return nil, false
			}
			value = node[i]
		case nil:
			// An empty list may be written as null.
			if key == "#" {
				value = json.Number("0")
				continue
			}
			return nil, false
		default:
			return nil, false
		}
	}
	return value, true
}

func compare(got, operator, want string) (bool, error) {
	if operator == "=" {
		return got == want, nil
	}
	w, err := strconv.ParseFloat(want, 64)
	if err != nil {
		return false, err
	}
	g, err := strconv.ParseFloat(got, 64)
	if err != nil {
		return false, nil // not there yet
	}
	switch operator {
	case "<=":
		return g <= w, nil
	case ">=":
		return g >= w, nil
	}
	return false, fmt.Errorf("unknown operator %q", operator)
}
