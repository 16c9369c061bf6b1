package loop

import "github.com/nsqloop/nsqloop/codec"

// identify carries out IDENTIFY. Only the first one of a connection decides about delivery (heartbeat ticker, message
// timeout, sampling); later ones change deadlines and what is reported.
func (c *conn) identify(body []byte) {
	c.l.flushPublishes(c)
	if c.ending {
		return
	}
	opt := c.l.opt
	lim := opt.Identify
	if c.id != nil { // what it does not ask for again stays
		lim.HeartbeatInterval = c.id.HeartbeatInterval
		lim.OutputBufferSize = c.id.OutputBufferSize
		lim.OutputBufferTimeout = c.id.OutputBufferTimeout
		lim.MsgTimeout = c.id.MsgTimeout
	}
	id, err := codec.ParseIdentify(body, lim)
	if err != nil {
		c.refuse(err)
		return
	}
	c.applyIdentify(&id)
	if !id.FeatureNegotiation {
		c.replyBytes(codec.FrameOK)
		return
	}
	grant, err := codec.Negotiate(&id, &opt.Server)
	if err != nil {
		c.refuse(err)
		return
	}
	if err := c.upgradable(grant); err != nil {
		c.refuse(err)
		return
	}
	l := c.l
	l.json = codec.AppendIdentifyResponse(l.json[:0], &id, &opt.Server, grant)
	l.frame = codec.AppendResponseBytes(l.frame[:0], l.json)
	c.replyBytes(l.frame)
	if grant.TLSv1 || grant.Snappy || grant.Deflate || opt.upgrade != nil {
		c.up = &upgrade{grant: grant}
		c.readBy = 0
	}
}

func (c *conn) applyIdentify(id *codec.Identify) {
	first := c.id == nil
	c.id = id
	c.interval = int64(id.HeartbeatInterval)
	c.pol.HeartbeatsOff = c.interval == 0
	if first {
		c.msgTimeout = id.MsgTimeout
		c.sampleRate = id.SampleRate
		c.startBeats(c.interval)
	}
}
