package loop

import (
	"bytes"
	"time"

	"github.com/nsqloop/nsqloop/codec"
)

// AUTH and the permission checks. With auth servers configured every SUB and every publish needs a permission that a
// server gave to the connection, for a limited time; after it the same question is asked again, when the next command
// needs an answer. Asking is the business of goroutines (authpool.go): meanwhile the connection is not read, the command
// that waits is held as a copy, and what was read behind it is parked. All other connections of the loop go on.

// clientAuth is what a connection has of all that. It exists from AUTH on. Owned by the connection's loop.
type clientAuth struct {
	secret  string
	grants  *authGrants // nil until a server answered
	until   int64       // loop clock: they count up to here
	publish map[string]bool

	// While a question is open: the question, and the command that it is for.
	query *authQuery
	held  codec.Command
}

// publishKept bounds how many topics a connection remembers to be allowed.
const publishKept = 1024

// asking tells that nothing may be executed before an auth server has answered.
func (c *conn) asking() bool { return c.auth != nil && c.auth.query != nil }

// authenticate carries out AUTH.
func (c *conn) authenticate(secret []byte) {
	l := c.l
	l.flushPublishes(c)
	if c.ending {
		return
	}
	switch {
	case c.auth != nil:
		c.refuse(codec.ErrAuthAlreadySet)
	case l.srv.auth == nil:
		c.refuse(codec.ErrAuthDisabled)
	default:
		c.auth = &clientAuth{secret: string(secret)}
		c.ask(&codec.Command{Kind: codec.KindAuth}, authFetch)
	}
}

// permitted checks a command against the permissions of the connection. If it reports false, the command was refused,
// or is held until an answer comes.
func (c *conn) permitted(cmd *codec.Command) bool {
	topic, channel := cmd.Topic, cmd.Channel
	switch cmd.Kind {
	case codec.KindPub, codec.KindDpub, codec.KindMpubHead:
		channel = nil
	case codec.KindSub:
	default:
		return true
	}
	a := c.auth
	switch {
	case a == nil || !a.grants.any():
		c.refuse(codec.AuthFirst(cmd.Kind))
		return false
	case c.l.now > a.until:
		c.ask(cmd, authFetch)
		return false
	case channel == nil && a.publish[string(topic)]:
		return true
	case a.grants.cost > matchInline:
		c.ask(cmd, authMatch)
		return false
	}
	return c.decided(cmd, a.grants.allow(string(topic), string(channel)))
}

// decided ends the check of a command.
func (c *conn) decided(cmd *codec.Command, allowed bool) bool {
	if cmd.Kind == codec.KindSub {
		if !allowed {
			c.refuse(codec.Unauthorized(cmd.Kind, cmd.Topic, cmd.Channel))
		}
		return allowed
	}
	if !allowed {
		c.refuse(codec.Unauthorized(cmd.Kind, cmd.Topic, nil))
		return false
	}
	a := c.auth
	if a.publish == nil || len(a.publish) >= publishKept {
		a.publish = make(map[string]bool, 1)
	}
	a.publish[string(cmd.Topic)] = true
	return true
}

// ask holds a command and puts its question to the pool.
func (c *conn) ask(cmd *codec.Command, kind authKind) {
	c.l.flushPublishes(c)
	if c.ending {
		return
	}
	a := c.auth
	a.held = codec.Command{
		Kind: cmd.Kind, Topic: bytes.Clone(cmd.Topic), Channel: bytes.Clone(cmd.Channel), Body: bytes.Clone(cmd.Body),
		Num: cmd.Num, Delay: cmd.Delay,
	}
	if cmd.Kind != codec.KindSub {
		a.held.Channel = nil // of an earlier command
	}
	secure, name := c.peerCertificate()
	a.query = &authQuery{
		c: c, kind: kind,
		client: authClient{remoteIP: peerHost(c.remote), tls: secure, commonName: name, secret: a.secret},
		grants: a.grants, topic: string(a.held.Topic), channel: string(a.held.Channel),
	}
	c.pause(pauseAuth)
	c.l.srv.auth.submit(a.query)
}

// peerCertificate tells whether TLS is in use, and the common name of the client's certificate, empty without one.
func (c *conn) peerCertificate() (secure bool, commonName string) {
	if c.tls == nil {
		return false, ""
	}
	return true, c.tls.CommonName
}

// takeAnswer goes on with the command that was held, once its question is answered and the publishes before it are
// stored: what is published behind those may not overtake them.
func (c *conn) takeAnswer() bool {
	a := c.auth
	if a == nil || a.query == nil || !a.query.answered || c.job != nil || c.ending || c.dead {
		return false
	}
	q := a.query
	cmd := a.held
	a.query, a.held = nil, codec.Command{}
	c.resume(pauseAuth)
	if q.err != nil {
		c.l.log(LogWarn, "PROTOCOL(V2): [%s] AUTH failed %s", c.remote, q.err)
		c.refuse(codec.ErrAuthFailed)
		return true
	}
	if q.kind == authFetch {
		a.grants, a.publish = q.grants, nil
		a.until = c.l.now + int64(q.grants.ttl)
	}
	switch {
	case cmd.Kind == codec.KindAuth:
		c.welcome()
	case q.kind == authFetch && !a.grants.any():
		c.decided(&cmd, false)
	case q.kind == authFetch && c.permitted(&cmd), q.kind == authMatch && c.decided(&cmd, q.allowed):
		c.run(&cmd)
		c.l.flushPublishes(c)
	}
	return true
}

// welcome answers an AUTH that a server answered.
func (c *conn) welcome() {
	g := c.auth.grants
	if !g.any() {
		c.refuse(codec.ErrAuthNoAuthorizations)
		return
	}
	l := c.l
	l.json = codec.AppendAuthResponse(l.json[:0], g.identity, g.identityURL, len(g.entries))
	l.frame = codec.AppendResponseBytes(l.frame[:0], l.json)
	c.replyBytes(l.frame)
}

// ttlMax keeps sums with the clock from wrapping around.
const ttlMax = 100 * 365 * 24 * time.Hour
