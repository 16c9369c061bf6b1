package main

import "github.com/nsqloop/nsqloop/cmd/internal/descriptors"

// connections divides the descriptor limit, which the event loops raise as far as it goes; --max-connections may make
// the number of clients smaller.
func (d *daemon) connections() descriptors.Connections {
	c, err := descriptors.Share(int64(d.o.MaxConnections))
	if err != nil {
		d.log.Warnf("NSQ: cannot read the limit of open files - %s", err)
	}
	if wanted := int64(d.o.MaxConnections); wanted > c.TCP {
		d.log.Warnf("NSQ: --max-connections is %d, but the limit of open files leaves room for %d", wanted, c.TCP)
	}
	return c
}
