package loop

import "github.com/nsqloop/nsqloop/codec"

// ack carries out FIN, REQ and TOUCH. What the lease refuses is told and not fatal.
func (c *conn) ack(cmd *codec.Command) {
	var err error
	switch cmd.Kind {
	case codec.KindFin:
		err = c.cons.Fin(cmd.ID, c.l.now)
	case codec.KindReq:
		err = c.cons.Req(cmd.ID, cmd.Delay, c.l.now)
	case codec.KindTouch:
		err = c.cons.Touch(cmd.ID, c.l.now)
	}
	c.acked = true
	if err != nil {
		c.l.flushPublishes(c)
		if !c.ending {
			c.replyError(codec.OutcomeFailed(cmd.Kind, cmd.ID, err.Error()))
		}
	}
}

// ready carries out RDY.
func (c *conn) ready(count int64) {
	c.cons.SetReady(count)
	c.acked = true
}
