package main

import "golang.org/x/sys/unix"

// connections is how many connections each listener may have.
type connections struct {
	tcp  int64 // 0 = no bound
	http int   // 0 = the server's own bound
}

// Shares of the descriptors a process may open. Files, segments being made, pollers and connections on their way from a listener to a
// loop need some when every client is there.
const (
	reserveBase  = 32
	reserveShare = 8 // and one in so many
	reserveMax   = 4096
	httpShare    = 8
	httpMax      = 4096
)

// connections divides the descriptor limit, which the event loops raise as far as it goes, unless --max-connections says how many clients
// there may be.
func (d *daemon) connections() connections {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		d.log.Warnf("NSQ: cannot read the limit of open files - %s", err)
		return connections{tcp: int64(d.o.MaxConnections)}
	}
	return shareDescriptors(limit.Max, int64(d.o.MaxConnections))
}

func shareDescriptors(limit uint64, wanted int64) connections {
	total := int64(min(limit, 1<<40)) // RLIM_INFINITY is larger
	http := min(total/httpShare, httpMax)
	reserve := min(reserveBase+total/reserveShare, reserveMax)
	c := connections{tcp: wanted, http: int(http)}
	if wanted == 0 {
		c.tcp = max(total-http-reserve, 1)
	}
	return c
}
