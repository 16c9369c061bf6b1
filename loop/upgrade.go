package loop

import (
	"fmt"
	"net"

	"github.com/nsqloop/nsqloop/codec"
)

// An IDENTIFY that negotiates TLS or compression is answered in the clear. When that answer is out, everything the
// client sent behind it belongs to the new layers: first TLS, then snappy or deflate inside, each with an OK of its own,
// the first thing that goes through it.

// upgrade is what was negotiated and is not installed yet. While there is one, no command is executed, and input waits
// in conn.wire or goes to the handshake.
type upgrade struct {
	grant codec.Grant
	hs    *handshake // nil before it began
	by    int64      // when it must be done; 0 before it began
}

// upgradeWaits bounds the input that waits for an answer to go out, in bytes.
const upgradeWaits = 64 << 10

type compression uint8

const (
	compressNone compression = iota
	compressSnappy
	compressDeflate
)

// TLSInfo is what a handshake settled. It does not change.
type TLSInfo struct {
	Version, CipherSuite uint16
	Protocol             string // negotiated by ALPN
	Mutual               bool   // the client offered it too
	CommonName           string // of the client's certificate, if it sent one
}

// upgradable refuses what is installed already: clients have no reason to ask twice, and the layers could not be told
// apart.
func (c *conn) upgradable(grant codec.Grant) *codec.Error {
	switch {
	case grant.TLSv1 && c.filter != nil:
		return codec.IdentifyFailed("TLS cannot begin inside TLS or compression")
	case (grant.Snappy || grant.Deflate) && c.compress != compressNone:
		return codec.IdentifyFailed("the connection is compressed already")
	}
	return nil
}

// upgradeRest keeps what was read behind the IDENTIFY. Inside TLS it is in the midst of the chain and dropped: there, as
// with stock, clients must wait for the answer.
func (c *conn) upgradeRest(rest []byte) {
	if c.filter == nil {
		c.wire = c.l.blocks.grow(c.wire, rest)
	}
}

// upgradeInput takes what arrives meanwhile.
func (c *conn) upgradeInput(p []byte) {
	if c.up.hs != nil {
		c.up.hs.feed(p)
		return
	}
	if c.wire = c.l.blocks.grow(c.wire, p); len(c.wire) >= upgradeWaits {
		c.pause(pauseUpgrade)
	}
}

// proceed goes on with the upgrade when the answer to IDENTIFY is out.
func (c *conn) proceed() {
	u := c.up
	if u.hs != nil || !c.replies.empty() || c.unsent() || c.ending || c.dead {
		return
	}
	c.resume(pauseUpgrade)
	if !u.grant.TLSv1 {
		c.finishUpgrade()
		return
	}
	s := c.l.srv
	u.hs = newHandshake(c, &s.handshakes, s.opt.TLS)
	u.by = c.l.now + handshakeTimeout
	wire := c.wire
	c.wire = nil
	u.hs.feed(wire)
	c.l.blocks.put(wire)
}

// handshakeNews takes what the goroutine of a handshake has done.
func (c *conn) handshakeNews(hs *handshake) {
	out, done, err := hs.take()
	c.sendWire(out)
	if !done || c.up == nil || c.dead {
		return
	}
	if err != nil {
		c.upgradeFailed(err)
		return
	}
	state := hs.tls.ConnectionState()
	c.tls = &TLSInfo{
		Version: state.Version, CipherSuite: state.CipherSuite,
		Protocol: state.NegotiatedProtocol, Mutual: state.NegotiatedProtocolIsMutual,
	}
	if len(state.PeerCertificates) > 0 {
		c.tls.CommonName = state.PeerCertificates[0].Subject.CommonName
	}
	c.pol.TLSRequired = false
	c.filter = &tlsFilter{conn: hs.tls, pipe: hs.pipe}
	c.wire = c.l.blocks.grow(c.l.blocks.get(1), hs.rest()) // crypto/tls may have records too: it is asked in any case
	c.sendWire(c.encode(codec.FrameOK))
	c.finishUpgrade()
}

// finishUpgrade installs what needs no handshake. settle goes on with c.wire.
func (c *conn) finishUpgrade() {
	l, grant := c.l, c.up.grant
	c.up = nil
	var filter Filter
	switch {
	case grant.Snappy:
		filter, c.compress = &snappyFilter{}, compressSnappy
	case grant.Deflate:
		filter, c.compress = &deflateFilter{pool: &l.deflaters, level: grant.DeflateLevel}, compressDeflate
	case l.opt.upgrade != nil:
		c.filter = l.opt.upgrade(grant)
	}
	if filter != nil {
		if c.filter != nil {
			filter = &chain{outer: c.filter, inner: filter, scratch: &l.chained}
		}
		c.filter = filter
		c.sendWire(c.encode(codec.FrameOK))
	}
	c.renewRead()
}

// upgradeBy is the deadline of an upgrade, 0 without one.
func (c *conn) upgradeBy() int64 {
	if c.up == nil {
		return 0
	}
	return c.up.by
}

func (c *conn) upgradeDeadline() {
	c.up.by = 0
	network, local := "tcp", ""
	if c.local != nil {
		network, local = c.local.Network(), c.local.String()
	}
	c.failUpgrade(fmt.Errorf("read %s %s->%s: i/o timeout", network, local, c.remote)) // as package net puts it
}

// failUpgrade ends a handshake. The client is told once its goroutine is done.
func (c *conn) failUpgrade(err error) {
	if !c.up.hs.fail(err) {
		c.upgradeFailed(err)
	}
}

// upgradeFailed tells the client, in the clear.
func (c *conn) upgradeFailed(err error) {
	c.up = nil
	c.refuse(codec.IdentifyFailed(err.Error()))
}

// dropFilter gives up what a closed connection has of filters and handshakes.
func (c *conn) dropFilter() {
	if c.filter != nil {
		c.filter.Close()
	}
	if c.up != nil && c.up.hs != nil {
		c.up.hs.fail(net.ErrClosed)
	}
}

// encodeOn goes on encoding the output of a connection whose turn was over.
func (l *loop) encodeOn(c *conn) {
	if c.closed {
		return
	}
	defer l.contain()
	l.culprit = c
	c.flushOutput()
}
