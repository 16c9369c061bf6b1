// Package descriptors divides the files a process may open between its listeners.
package descriptors

import "golang.org/x/sys/unix"

// Connections is how many connections each listener may have.
type Connections struct {
	TCP  int64 // 0 = no bound
	HTTP int   // 0 = the server's own bound
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

// Share divides the descriptor limit, which a process raises as far as it goes, wanted may make the number of TCP clients smaller, not larger. On error
// only what was wanted is set.
func Share(wanted int64) (Connections, error) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return Connections{TCP: wanted}, err
	}
	return share(limit.Max, wanted), nil
}

func share(limit uint64, wanted int64) Connections {
	total := int64(min(limit, 1<<40)) // RLIM_INFINITY is larger
	http := min(total/httpShare, httpMax)
	reserve := min(reserveBase+total/reserveShare, reserveMax)
	c := Connections{TCP: wanted, HTTP: int(http)}
	// More than that would take descriptors that segments need: a publish of somebody who has long been in would fail.
	if room := max(total-http-reserve, 1); wanted == 0 || wanted > room {
		c.TCP = room
	}
	return c
}
