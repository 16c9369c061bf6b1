package lookupd

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nsqloop/nsqloop/codec"
)

func defaultTiming() timing {
	return timing{
		ping: 15 * time.Second, answer: time.Second, resolve: time.Minute, retryMin: time.Second, retryMax: 15 * time.Second,
		lookup: net.DefaultResolver.LookupHost,
	}
}

// identity is how an nsqlookupd answers IDENTIFY. The order of the fields is that of the log line.
type identity struct {
	TCPPort          int    `json:"tcp_port"`
	HTTPPort         int    `json:"http_port"`
	Version          string `json:"version"`
	BroadcastAddress string `json:"broadcast_address"`
}

func (id *identity) httpAddr() string {
	return net.JoinHostPort(id.BroadcastAddress, strconv.Itoa(id.HTTPPort))
}

// peer keeps one connection to one nsqlookupd. Its goroutine owns everything but what mu and the atomics guard.
type peer struct {
	addr   string
	o      *PeersOptions
	ctx    context.Context
	cancel context.CancelFunc

	identity atomic.Pointer[identity] // of the last nsqlookupd that answered there
	news     chan struct{}            // holds one: there is something in queue

	mu     sync.Mutex
	listen bool                      // announcements are collected: the connection is there, or its full list is about to be made
	queue  []Registration            // what changed, in order, each name once
	queued map[Registration]struct{} // what is in queue
}

func newPeerLink(addr string, o *PeersOptions) *peer {
	p := &peer{addr: addr, o: o, news: make(chan struct{}, 1)}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p
}

// announce notes a change. Without a connection there is nothing to note: the next one begins with everything.
func (p *peer) announce(r Registration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, waiting := p.queued[r]; waiting || !p.listen {
		return
	}
	p.queued[r] = struct{}{}
	p.queue = append(p.queue, r)
	select {
	case p.news <- struct{}{}:
	default:
	}
}

// setListen begins or ends the collecting, with nothing collected.
func (p *peer) setListen(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.listen, p.queue, p.queued = on, nil, map[Registration]struct{}{}
}

func (p *peer) takeQueue() []Registration {
	p.mu.Lock()
	defer p.mu.Unlock()
	q := p.queue
	p.queue, p.queued = nil, map[Registration]struct{}{}
	return q
}

// errMoved ends a connection to an address that the name does not mean any more.
var errMoved = errors.New("its name means another address now")

// run connects again and again until the peer is removed.
func (p *peer) run() {
	wait := p.o.timing.retryMin
	for {
		ctx, cancel := context.WithCancel(p.ctx)
		l := &link{peer: p, ctx: ctx}
		err := l.run()
		cancel()
		l.helpers.Wait()
		p.setListen(false)
		if p.ctx.Err() != nil {
			return
		}
		p.o.Log.Errorf("LOOKUPD(%s): %s - %s", p.addr, l.doing, err)
		if l.registered {
			wait = p.o.timing.retryMin
		}
		if !errors.Is(err, errMoved) {
			timer := time.NewTimer(wait)
			select {
			case <-timer.C:
			case <-p.ctx.Done():
				timer.Stop()
				return
			}
		}
		wait = min(2*wait, p.o.timing.retryMax)
	}
}

// link is one connection to a peer. Owned by the peer's goroutine.
type link struct {
	*peer
	ctx        context.Context // ends with the connection
	helpers    sync.WaitGroup  // goroutines of this connection
	conn       net.Conn
	replies    chan []byte
	broken     chan error // the reader's last word; holds one
	doing      string     // the command in hand, for the log
	registered bool       // everything was announced at least once
}

// registerBatch is how many commands are sent before their replies are awaited.
const registerBatch = 100

// run announces everything, then what changes, until something goes wrong, which it returns.
func (l *link) run() error {
	l.doing = codec.LookupIdentify
	l.o.Log.Infof("LOOKUP connecting to %s", l.addr)
	if err := l.dial(); err != nil {
		return err
	}
	l.helpers.Go(l.read)
	defer func() {
		if err := l.conn.Close(); err != nil {
			l.o.Log.Debugf("LOOKUPD(%s): closing - %s", l.addr, err)
		}
	}()
	if err := l.identify(); err != nil {
		return err
	}
	l.setListen(true) // before the list is made, so that nothing falls between
	all := l.o.Directory.Registrations()
	for _, r := range all {
		l.o.Log.Infof("LOOKUPD(%s): %s", l.addr, words(codec.LookupRegister, r))
	}
	if err := l.sendAll(all, func(Registration) string { return codec.LookupRegister }); err != nil {
		return err
	}
	l.registered = true
	return l.serve()
}

// dial connects to the first address of the name that answers.
func (l *link) dial() error {
	ctx, cancel := context.WithTimeout(l.ctx, l.o.timing.answer)
	defer cancel()
	host, port, err := net.SplitHostPort(l.addr)
	if err != nil {
		return err
	}
	addresses := []string{host}
	if net.ParseIP(host) == nil && host != "" {
		if addresses, err = l.o.timing.lookup(ctx, host); err != nil {
			return err
		}
	}
	err = fmt.Errorf("no address for %s", host)
	for _, a := range addresses {
		if l.conn, err = (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(a, port)); err == nil {
			l.replies, l.broken = make(chan []byte), make(chan error, 1)
			return nil
		}
	}
	return err
}

// read hands on replies until the connection ends. It is the only one that reads, so the end of a connection is noticed at once.
func (l *link) read() {
	for {
		body, err := ReadReply(l.conn, l.o.MaxReplySize)
		if err != nil {
			l.broken <- err
			return
		}
		select {
		case l.replies <- body:
		case <-l.ctx.Done():
			return
		}
	}
}

func (l *link) write(b []byte) error {
	if err := l.conn.SetWriteDeadline(time.Now().Add(l.o.timing.answer)); err != nil {
		return err
	}
	_, err := l.conn.Write(b)
	return err
}

// await returns the next reply, which has to arrive whole in time.
func (l *link) await() ([]byte, error) {
	timer := time.NewTimer(l.o.timing.answer)
	defer timer.Stop()
	select {
	case body := <-l.replies:
		return body, nil
	case err := <-l.broken:
		return nil, err
	case <-timer.C:
		return nil, fmt.Errorf("no reply within %s", l.o.timing.answer)
	case <-l.ctx.Done():
		return nil, l.ctx.Err()
	}
}

// logged bounds what of a reply is repeated in the log.
const logged = 200

func (l *link) identify() error {
	hello := codec.AppendLookupCommand([]byte(codec.LookupMagic), codec.LookupIdentify)
	if err := l.write(codec.AppendLookupBody(hello, l.o.Identity)); err != nil {
		return err
	}
	reply, err := l.await()
	if err != nil {
		return err
	}
	var id identity
	if string(reply) == "E_INVALID" {
		return errors.New("lookupd returned E_INVALID")
	}
	if err := json.Unmarshal(reply, &id); err != nil {
		return fmt.Errorf("parsing response - %.*q", logged, reply)
	}
	l.o.Log.Infof("LOOKUPD(%s): peer info %+v", l.addr, id)
	if id.BroadcastAddress == "" {
		l.o.Log.Errorf("LOOKUPD(%s): no broadcast address", l.addr)
	}
	l.identity.Store(&id)
	return nil
}

// words is a command as the log shows it.
func words(name string, r Registration) string {
	line := codec.AppendLookupCommand(nil, name, r.Topic, r.Channel)
	return string(line[:len(line)-1])
}

// sendAll sends one command per registration and awaits the replies, a batch at a time.
func (l *link) sendAll(list []Registration, command func(Registration) string) error {
	for batch := range slices.Chunk(list, registerBatch) {
		var out []byte
		names := make([]string, len(batch))
		for i, r := range batch {
			names[i] = command(r)
			out = codec.AppendLookupCommand(out, names[i], r.Topic, r.Channel)
		}
		l.doing = words(names[0], batch[0])
		if err := l.write(out); err != nil {
			return err
		}
		for i, r := range batch {
			l.doing = words(names[i], r)
			reply, err := l.await()
			if err != nil {
				return err
			}
			if string(reply) != "OK" {
				l.o.Log.Warnf("LOOKUPD(%s): %s - answered %.*q", l.addr, l.doing, logged, reply)
			}
		}
	}
	return nil
}

// serve pings and announces changes.
func (l *link) serve() error {
	ping := time.NewTicker(l.o.timing.ping)
	defer ping.Stop()
	resolve := time.NewTicker(l.o.timing.resolve)
	defer resolve.Stop()
	moved := make(chan bool, 1)
	looking := false
	for {
		l.doing = "connection"
		var err error
		select {
		case <-ping.C:
			err = l.ping()
		case <-l.news:
			err = l.sendChanges()
		case <-resolve.C:
			if !looking {
				looking = true
				l.helpers.Go(func() { l.look(moved) })
			}
		case gone := <-moved:
			if looking = false; gone {
				return errMoved
			}
		case reply := <-l.replies:
			return fmt.Errorf("a reply nobody asked for - %.*q", logged, reply)
		case err = <-l.broken:
		case <-l.ctx.Done():
			err = l.ctx.Err()
		}
		if err != nil {
			return err
		}
	}
}

func (l *link) ping() error {
	l.doing = codec.LookupPing
	l.o.Log.Debugf("LOOKUPD(%s): sending heartbeat", l.addr)
	if err := l.write(codec.AppendLookupCommand(nil, codec.LookupPing)); err != nil {
		return err
	}
	_, err := l.await()
	return err
}

// sendChanges tells what became of everything in the queue.
func (l *link) sendChanges() error {
	queue := l.takeQueue()
	return l.sendAll(queue, func(r Registration) string {
		name, branch := codec.LookupUnregister, "topic"
		if l.o.Directory.Exists(r.Topic, r.Channel) {
			name = codec.LookupRegister
		}
		if r.Channel != "" {
			branch = "channel"
		}
		l.o.Log.Infof("LOOKUPD(%s): %s %s", l.addr, branch, words(name, r))
		return name
	})
}

// look tells whether the name of the peer no longer means the address that is connected to. A name that cannot be looked up now means what it
// meant. It is a goroutine of its own since looking up takes as long as it takes, at most the time between two looks.
func (l *link) look(moved chan<- bool) {
	ctx, cancel := context.WithTimeout(l.ctx, l.o.timing.resolve)
	defer cancel()
	host, _, err := net.SplitHostPort(l.addr)
	if err != nil || host == "" || net.ParseIP(host) != nil {
		moved <- false
		return
	}
	addresses, err := l.o.timing.lookup(ctx, host)
	remote, ok := l.conn.RemoteAddr().(*net.TCPAddr)
	same := func(a string) bool { return remote.IP.Equal(net.ParseIP(a)) }
	moved <- err == nil && ok && len(addresses) > 0 && !slices.ContainsFunc(addresses, same)
}

// ReadReply reads one reply of the lookup protocol. One that claims a negative size, or more than limit bytes, is an error.
func ReadReply(r io.Reader, limit int64) ([]byte, error) {
	var prefix [4]byte
	if _, err := io.ReadFull(r, prefix[:]); err != nil {
		return nil, err
	}
	size := int64(int32(binary.BigEndian.Uint32(prefix[:])))
	if size < 0 || size > limit {
		return nil, fmt.Errorf("response body size (%d) is greater than limit (%d)", size, limit)
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, err
	}
	return body, nil
}
