package compat

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

var (
	boundsPrefix = regexp.MustCompile(`^\(([0-9a-z.]+)\.\.([0-9a-z.]+)\) (.*)$`)
	messageWord  = regexp.MustCompile(`^\$([a-z0-9]+)(@?) ([0-9]+)(?: (.*))?$`)
	idShape      = regexp.MustCompile(`^[0-9a-f]{16}$`)
)

// timestampSlack is how far a message's timestamp may lie from now.
const timestampSlack = 5 * time.Minute

// expect plays one "a< ..." step, for the index-th time.
func (p *player) expect(s *step, c *conn, index int) error {
	p.vars["i"] = strconv.Itoa(index)
	what := s.arg
	var low, high time.Duration
	if m := boundsPrefix.FindStringSubmatch(what); m != nil {
		var err error
		if low, err = time.ParseDuration(m[1]); err != nil {
			return err
		}
		if high, err = time.ParseDuration(m[2]); err != nil {
			return err
		}
		what = m[3]
	}
	if rest, ok := strings.CutPrefix(what, "silence "); ok {
		return p.expectSilence(s, c, rest)
	}
	wait := p.patience
	if high > 0 {
		wait = high + lateness
	}
	e, ok := c.next(wait, true)
	if !ok {
		return fmt.Errorf("expected %s\n    got      nothing in %v", p.readable(what), wait)
	}
	p.note("%s< %s", s.conn, e)
	if e.end != "" {
		c.ended = true
		c.reset = c.reset || e.end == "reset"
	}
	if err := p.match(what, e); err != nil {
		return err
	}
	// Counted so that a test process that loses the processor in the middle of
	// a step sees neither bound broken because of it.
	early, late := low > 0 && e.at.Sub(p.began) < low, e.at.Sub(p.done) > high
	after := e.at.Sub(p.done)
	p.began, p.done = e.at, e.at
	if high > 0 && (early || late) {
		return fmt.Errorf("expected %s after %v to %v\n    got      it after %v", p.readable(what), low, high, after)
	}
	return nil
}

func (p *player) expectSilence(s *step, c *conn, duration string) error {
	d, err := time.ParseDuration(duration)
	if err != nil {
		return err
	}
	e, ok := c.next(d, false)
	p.began, p.done = time.Now(), time.Now()
	if ok {
		p.note("%s< %s", s.conn, e)
		return fmt.Errorf("expected silence\n    got      %s", e)
	}
	p.note("%s< silence for %v", s.conn, d)
	return nil
}

// readable is an expectation with its variables filled in, for reports.
func (p *player) readable(what string) string {
	word, rest, _ := strings.Cut(what, " ")
	if word != "response" && word != "error" {
		return what
	}
	data, err := expand(rest, p.vars)
	if err != nil {
		return what
	}
	return fmt.Sprintf("%s %q", word, clip(data))
}

func (p *player) match(what string, e event) error {
	word, rest, _ := strings.Cut(what, " ")
	switch word {
	case "eof":
		return matchEnd(what, e, e.end == "eof")
	case "close":
		return matchEnd(what, e, e.end == "eof" || e.end == "reset")
	case "alert":
		return matchEnd(what, e, e.end == "remote error: tls: "+rest)
	case "ok":
		return p.matchFrame("response OK", frameResponse, "OK", e)
	case "heartbeat":
		return p.matchFrame(what, frameResponse, "_heartbeat_", e)
	case "response":
		return p.matchFrame(what, frameResponse, rest, e)
	case "error":
		return p.matchFrame(what, frameError, rest, e)
	case "response~":
		return p.matchPattern(what, frameResponse, rest, e)
	case "error~":
		return p.matchPattern(what, frameError, rest, e)
	case "message":
		return p.matchMessage(rest, e)
	}
	return fmt.Errorf("unknown expectation %q", what)
}

func matchEnd(what string, e event, ok bool) error {
	if !ok {
		return fmt.Errorf("expected %s\n    got      %s", what, e)
	}
	return nil
}

func (p *player) matchFrame(what string, kind int32, text string, e event) error {
	want, err := expand(text, p.vars)
	if err != nil {
		return err
	}
	if e.end != "" || e.kind != kind || !bytes.Equal(e.data, want) {
		return fmt.Errorf("expected %s\n    got      %s", p.readable(what), e)
	}
	return nil
}

// matchPattern takes the pattern as it stands, except that variables in braces
// are filled in.
func (p *player) matchPattern(what string, kind int32, pattern string, e event) error {
	for name, value := range p.vars {
		pattern = strings.ReplaceAll(pattern, "${"+name+"}", regexp.QuoteMeta(value))
	}
	re, err := regexp.Compile("^(?s:" + pattern + ")$")
	if err != nil {
		return err
	}
	if e.end != "" || e.kind != kind || !re.Match(e.data) {
		return fmt.Errorf("expected %s\n    got      %s", what, e)
	}
	return nil
}

// matchMessage checks a message frame: attempts and body to the byte, id and
// timestamp by shape, or against the earlier delivery of the same message.
func (p *player) matchMessage(spec string, e event) error {
	m := messageWord.FindStringSubmatch(spec)
	if m == nil {
		return fmt.Errorf("not a message expectation: %q", spec)
	}
	name, attempts := m[1], m[3]
	if m[2] != "" {
		name += p.vars["i"]
	}
	body, err := expand(m[4], p.vars)
	if err != nil {
		return err
	}
	if e.end != "" || e.kind != frameMessage {
		return fmt.Errorf("expected message %s\n    got      %s", spec, e)
	}
	got, err := parseMessage(e.data)
	if err != nil {
		return err
	}
	if fmt.Sprint(got.attempts) != attempts || !bytes.Equal(got.body, body) {
		return fmt.Errorf("expected message attempts=%s body=%q\n    got      %s", attempts, clip(body), e)
	}
	return p.matchIdentity(name, got)
}

func (p *player) matchIdentity(name string, got message) error {
	if id, bound := p.vars[name]; bound {
		if got.id != id || got.timestamp != p.stamps[name] {
			return fmt.Errorf("expected $%s, id %s, timestamp %d\n    got      id %s, timestamp %d",
				name, id, p.stamps[name], got.id, got.timestamp)
		}
		return nil
	}
	if err := p.checkShape(got); err != nil {
		return err
	}
	if name == "any" { // bound by no one: a script that does not care
		return nil
	}
	for other := range p.stamps {
		if p.vars[other] == got.id {
			return fmt.Errorf("$%s has the id of $%s, %s", name, other, got.id)
		}
	}
	p.vars[name], p.stamps[name] = got.id, got.timestamp
	return nil
}

// checkShape is what a client may rely on in an id and a timestamp, and the bit
// that tells ids of the two daemons apart.
func (p *player) checkShape(got message) error {
	if !idShape.MatchString(got.id) {
		return fmt.Errorf("message id %q is not 16 lower-case hex digits", got.id)
	}
	high := got.id[0] >= '8'
	if high != (p.variant == "ours") { // the difference id-bit-63
		return fmt.Errorf("bit 63 of message id %s is not as the %s daemon's", got.id, p.variant)
	}
	if age := time.Since(time.Unix(0, got.timestamp)).Abs(); age > timestampSlack {
		return fmt.Errorf("message timestamp %d is %v away", got.timestamp, age)
	}
	return nil
}
