package loop

// A connection is on up to four lists of its loop at once. The links are part of the connection, so that joining and
// leaving cost no allocation and no search.
const (
	linkAll     = iota // every connection of the loop
	linkMember         // the consumers of a channel on this loop
	linkReady          // those of them that could take a message now
	linkWaiting        // connections whose next reply waits for an Ack
	linkKinds
)

type connLink struct {
	next, prev *conn
	in         *connList // nil: on no list of this kind
}

// connList is a doubly linked list of connections, owned by its loop.
type connList struct {
	kind        int
	first, last *conn
	size        int
}

// pushBack reports false when c is on a list of this kind already.
func (l *connList) pushBack(c *conn) bool {
	link := &c.links[l.kind]
	if link.in != nil {
		return false
	}
	link.in, link.prev, link.next = l, l.last, nil
	if l.last != nil {
		l.last.links[l.kind].next = c
	} else {
		l.first = c
	}
	l.last = c
	l.size++
	return true
}

// remove reports false when c is not on this list.
func (l *connList) remove(c *conn) bool {
	link := &c.links[l.kind]
	if link.in != l {
		return false
	}
	if link.prev != nil {
		link.prev.links[l.kind].next = link.next
	} else {
		l.first = link.next
	}
	if link.next != nil {
		link.next.links[l.kind].prev = link.prev
	} else {
		l.last = link.prev
	}
	*link = connLink{}
	l.size--
	return true
}

// rotate moves the first connection to the end.
func (l *connList) rotate() {
	if c := l.first; c != l.last {
		l.remove(c)
		l.pushBack(c)
	}
}

// after is the connection that follows c on this list.
func (l *connList) after(c *conn) *conn { return c.links[l.kind].next }
