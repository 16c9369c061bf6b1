package main

import "github.com/nsqloop/nsqloop/cmd/internal/descriptors"

// connections divides the descriptor limit, which the event loops raise as far as it goes, unless --max-connections says how many clients
// there may be.
func (d *daemon) connections() descriptors.Connections {
	c, err := descriptors.Share(int64(d.o.MaxConnections))
	if err != nil {
		d.log.Warnf("NSQ: cannot read the limit of open files - %s", err)
	}
	return c
}
