package loop

import (
	"io"

	"github.com/nsqloop/nsqloop/codec"
)

// readMagic takes the first four bytes; what follows them may be in the same read.
func (c *conn) readMagic(p []byte) (rest []byte) {
	n := copy(c.magic[c.magicLen:], p)
	c.magicLen += uint8(n)
	if int(c.magicLen) < len(c.magic) {
		return nil
	}
	c.l.log(LogInfo, "CLIENT(%s): desired protocol magic '%s'", c.remote, c.magic[:])
	if string(c.magic[:]) != codec.MagicV2 {
		c.l.log(LogError, "CLIENT(%s): bad protocol magic '%s'", c.remote, c.magic[:])
		c.replyError(codec.ErrBadProtocol)
		return nil
	}
	opt := c.l.opt
	c.split.Init(&opt.Limits)
	c.pol.TLSRequired = opt.TLSRequired
	c.msgTimeout = opt.Identify.MsgTimeout
	c.interval = int64(opt.Identify.HeartbeatInterval)
	c.pol.HeartbeatsOff = c.interval == 0
	c.startBeats(c.interval)
	c.renewRead()
	return p[n:]
}

// execute carries one command out, if the client may have it.
func (c *conn) execute(cmd *codec.Command) {
	if c.l.srv.auth == nil || c.permitted(cmd) {
		c.run(cmd)
	}
}

// run carries one command out. Whatever a command answers comes after the answers to the publishes collected before
// it, which is why everything that may answer flushes them first.
func (c *conn) run(cmd *codec.Command) {
	switch cmd.Kind {
	case codec.KindPub:
		c.pub(cmd)
	case codec.KindFin, codec.KindReq, codec.KindTouch:
		c.ack(cmd)
	case codec.KindMpubHead:
		c.mpubHead(cmd)
	case codec.KindMpub:
		c.mpub(cmd)
	case codec.KindDpub:
		c.dpub(cmd)
	case codec.KindRdy:
		c.ready(cmd.Num)
	case codec.KindSub:
		c.subscribe(cmd.Topic, cmd.Channel)
	case codec.KindCls:
		c.startClose()
	case codec.KindIdentify:
		c.identify(cmd.Body)
	case codec.KindAuth:
		c.authenticate(cmd.Body)
	case codec.KindNop:
	default:
		panic("BUG: a command of kind " + cmd.Kind.String())
	}
}

// refuse answers a command with a fatal error, behind everything already owed.
func (c *conn) refuse(err *codec.Error) {
	c.l.flushPublishes(c)
	if c.ending { // one of those failed, and that was the last word
		return
	}
	c.l.log(LogError, "CLIENT(%s): %s", c.remote, err)
	c.replyError(err)
}

// peerClosed: the client sent its last byte, and maybe still reads. It gets the answers it is owed, including the one to
// a body it left unfinished. Its messages go back at once.
func (c *conn) peerClosed() {
	if c.held != nil {
		c.dead = true // it is not reading its messages either
		return
	}
	c.leaveChannel()
	if c.ending {
		return
	}
	if c.up != nil && c.up.hs != nil {
		c.failUpgrade(io.EOF)
		return
	}
	if c.magicLen == uint8(len(c.magic)) {
		if err := c.split.Truncated(); err != nil {
			c.refuse(err)
		}
	}
	c.ending = true
}
