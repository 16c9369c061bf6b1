package loop

import (
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"regexp/syntax"
	"runtime"
	"sync"
	"time"
	"weak"
)

// What an auth server may cost. It is trusted to say who may do what, not to be well.
const (
	authAnswerMax  = 1 << 20 // bytes of an answer
	authCostMax    = 200_000 // steps of all its patterns together, about 40 bytes each
	authPatternMax = 16 << 10
	matchInline    = 2_000 // steps: what costs more is matched by the pool, not on a loop
)

// authGrants is the answer of an auth server, checked. It is never changed, and shared between its connection and the
// pool.
type authGrants struct {
	ttl                   time.Duration
	identity, identityURL string
	entries               []authEntry
	cost                  int // of matching everything
}

// authEntry gives permissions for the topics that match, and channels of which one pattern matches.
type authEntry struct {
	topic              *regexp.Regexp
	channels           []*regexp.Regexp
	publish, subscribe bool
}

func (g *authGrants) any() bool { return g != nil && len(g.entries) > 0 }

// allow tells whether an entry allows to subscribe to the channel, or to publish to the topic where channel is empty: a
// publish needs a pattern that matches the empty channel.
func (g *authGrants) allow(topic, channel string) bool {
	for i := range g.entries {
		e := &g.entries[i]
		if channel == "" && !e.publish || channel != "" && !e.subscribe || !e.topic.MatchString(topic) {
			continue
		}
		for _, re := range e.channels {
			if re.MatchString(channel) {
				return true
			}
		}
	}
	return false
}

// parseGrants checks the body of an answer.
func parseGrants(body []byte, patterns *patternCache) (*authGrants, error) {
	var answer struct {
		TTL            int    `json:"ttl"`
		Identity       string `json:"identity"`
		IdentityURL    string `json:"identity_url"`
		Authorizations []struct {
			Topic       string   `json:"topic"`
			Channels    []string `json:"channels"`
			Permissions []string `json:"permissions"`
		} `json:"authorizations"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, err
	}
	g := &authGrants{identity: answer.Identity, identityURL: answer.IdentityURL}
	for _, a := range answer.Authorizations {
		var e authEntry
		for _, p := range a.Permissions {
			switch p {
			case "subscribe":
				e.subscribe = true
			case "publish":
				e.publish = true
			default:
				return nil, fmt.Errorf("unknown permission %s", p)
			}
		}
		var err error
		if e.topic, err = patterns.compile(a.Topic, &g.cost); err != nil {
			return nil, fmt.Errorf("unable to compile topic %q %w", clip(a.Topic), err)
		}
		for _, channel := range a.Channels {
			re, err := patterns.compile(channel, &g.cost)
			if err != nil {
				return nil, fmt.Errorf("unable to compile channel %q %w", clip(channel), err)
			}
			e.channels = append(e.channels, re)
		}
		g.entries = append(g.entries, e)
	}
	if answer.TTL <= 0 {
		return nil, fmt.Errorf("invalid TTL %d (must be >0)", answer.TTL)
	}
	g.ttl = time.Duration(min(int64(answer.TTL), int64(ttlMax/time.Second))) * time.Second
	return g, nil
}

// clip keeps log lines short.
func clip(s string) string {
	const most = 200
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}

// patternCache keeps one copy of each pattern in use: ten thousand connections of one service have the same few. A
// pattern lives as long as an answer that uses it. Any goroutine.
type patternCache struct {
	mu   sync.Mutex
	live map[string]*cachedPattern
}

type cachedPattern struct {
	re   weak.Pointer[regexp.Regexp]
	cost int
}

// compile adds the cost of the pattern to sum, and refuses what makes it too much.
func (p *patternCache) compile(text string, sum *int) (*regexp.Regexp, error) {
	if re := p.find(text, sum); re != nil {
		return re, nil
	}
	if len(text) > authPatternMax {
		return nil, fmt.Errorf("of %d bytes, at most %d are taken", len(text), authPatternMax)
	}
	tree, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		return nil, err
	}
	cost := stepsOf(tree)
	if *sum += cost; *sum > authCostMax {
		return nil, fmt.Errorf("of an answer whose patterns cost more than %d steps", authCostMax)
	}
	re, err := regexp.Compile(text)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.live == nil {
		p.live = map[string]*cachedPattern{}
	}
	entry := &cachedPattern{re: weak.Make(re), cost: cost}
	p.live[text] = entry
	runtime.AddCleanup(re, func(text string) { p.drop(text, entry) }, text)
	return re, nil
}

func (p *patternCache) find(text string, sum *int) *regexp.Regexp {
	p.mu.Lock()
	defer p.mu.Unlock()
	entry := p.live[text]
	if entry == nil || *sum+entry.cost > authCostMax {
		return nil
	}
	re := entry.re.Value()
	if re != nil {
		*sum += entry.cost
	}
	return re
}

// drop forgets an entry whose pattern nobody uses any more, unless another took its place.
func (p *patternCache) drop(text string, entry *cachedPattern) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.live[text] == entry {
		delete(p.live, text)
	}
}

// stepsOf estimates the size of the program that a pattern compiles to, without compiling it.
func stepsOf(re *syntax.Regexp) int {
	n := 1 + len(re.Rune)
	for _, sub := range re.Sub {
		n += stepsOf(sub)
	}
	if re.Op == syntax.OpRepeat {
		times := max(re.Min, re.Max, 1)
		n = min(n, math.MaxInt/2/times) * times
	}
	return min(n, math.MaxInt32)
}
