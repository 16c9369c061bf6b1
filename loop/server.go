// Package loop serves clients: it accepts connections, spreads them over event loops, speaks the V2 protocol with them,
// publishes what they send into the broker and writes what they consume straight from its log.
//
// Who owns what:
//
//	loop, conn, wheel, blocks, batch   the goroutine of that loop, nobody else
//	mailbox                            everybody, under its mutex
//	slowJob, authQuery                 its loop, then one goroutine of slowPool or authPool, then its loop again
//	handshake                          under its mutex; its tls.Conn belongs to its goroutine, then to the loop
//	Server                             set up by New and Start; counters are atomic
//
// To read along the way of a message: listen, conn (one read is one batch), session, publish, reply; then deliver,
// outbound, ack. TLS and compression: upgrade, handshake, filter, filterout. Beside it: deadlines and wheel, mailbox and
// loop, engine and gnetengine.
package loop

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"

	"github.com/nsqloop/nsqloop/fanout"
)

// slowPublishers bounds the goroutines that wait for the disk on behalf of publishing connections.
const slowPublishers = 16

// Server serves the clients of one broker.
type Server struct {
	opt    Options
	log    LogFunc
	broker *fanout.Broker
	loops  []*loop
	slow   slowPool
	auth   *authPool // nil: everything is permitted

	handshakes handshakes

	listen    func(network, addr string) (net.Listener, error)
	newEngine func(LogFunc) engine
	listeners []net.Listener
	accepting sync.WaitGroup
	stopping  chan struct{}
	stopOnce  sync.Once
	stopErr   error

	open, accepted, refused, panics atomic.Int64

	errors errorCounts
	probes probes
}

// Counters of a server since its start, except Open.
type Counters struct {
	Open     int64 // connections now
	Accepted int64 // connections given to a loop
	Refused  int64 // closed at once: too many, or no descriptor to go on with
	Panics   int64 // faults of ours, each of which cost at most one connection
}

// New prepares a server. The broker must outlive it.
func New(broker *fanout.Broker, opt Options) (*Server, error) {
	if err := opt.complete(); err != nil {
		return nil, err
	}
	s := &Server{
		opt: opt, log: opt.Log, broker: broker,
		listen:    net.Listen,
		newEngine: func(log LogFunc) engine { return newGnetEngine(log) },
		stopping:  make(chan struct{}),
		slow:      slowPool{broker: broker, log: opt.Log, limit: slowPublishers},
	}
	if len(opt.Auth.Addresses) > 0 {
		s.auth = newAuthPool(opt.Auth, opt.Log)
	}
	s.handshakes.slots = make(chan struct{}, s.opt.MaxHandshakes)
	return s, nil
}

// Start opens the listeners and serves until Stop. After an error nothing is left running.
func (s *Server) Start() error {
	if err := raiseDescriptorLimit(); err != nil {
		s.log(LogWarn, "TCP: cannot raise the limit of open files - %s", err)
	}
	for i := range s.opt.Loops {
		l := newLoop(s, i, s.newEngine(s.log))
		if err := l.engine.start(l); err != nil {
			return errors.Join(err, s.Stop())
		}
		s.loops = append(s.loops, l)
		s.broker.AttachLoop(i, l)
	}
	if err := s.listenAll(); err != nil {
		return errors.Join(err, s.Stop())
	}
	for _, ln := range s.listeners {
		s.log(LogInfo, "TCP: listening on %s", ln.Addr())
		s.accepting.Add(1)
		go s.accept(ln)
	}
	return nil
}

// Addrs are the addresses listened on, in the order of Options.Addresses.
func (s *Server) Addrs() []net.Addr {
	addrs := make([]net.Addr, len(s.listeners))
	for i, ln := range s.listeners {
		addrs[i] = ln.Addr()
	}
	return addrs
}

// Stop closes the listeners, then every connection, without a frame, then ends the loops. Every later call gives the
// same result. The broker must still be alive: what is in flight goes back to it, and publishes that wait for the disk
// are waited for.
func (s *Server) Stop() error {
	s.stopOnce.Do(func() { s.stopErr = s.stop() })
	return s.stopErr
}

func (s *Server) stop() error {
	close(s.stopping)
	err := s.closeListeners()
	s.accepting.Wait()
	s.probes.wg.Wait()
	for _, l := range s.loops {
		l.mail.raise(flagDrain)
	}
	s.Clients() // answered after the drain: the mail is read in turns
	s.slow.wait()
	if s.auth != nil {
		s.auth.close()
	}
	s.handshakes.running.Wait()
	for _, l := range s.loops {
		err = errors.Join(err, l.stop())
	}
	return err
}

// stop ends the loop's goroutine. Its connections are closed already.
func (l *loop) stop() error {
	l.timer.Stop()
	for _, x := range l.mail.close() {
		if x.kind == letterStats {
			close(x.req.done)
		}
	}
	return l.engine.stop()
}

// Clients tells about every connection, in no order. Any goroutine. After Stop there are none.
func (s *Server) Clients() []ClientStats { return s.AppendClients(nil) }

// AppendClients adds every connection to list, which the caller gives up until it returns: one loop after the other writes into it, each in one
// turn. Any goroutine.
func (s *Server) AppendClients(list []ClientStats) []ClientStats {
	for _, l := range s.loops {
		req := &statsRequest{clients: list, done: make(chan struct{})}
		if l.mail.post(letter{kind: letterStats, req: req}) {
			<-req.done
			list = req.clients
		}
	}
	return list
}

// Counters may be read from any goroutine.
func (s *Server) Counters() Counters {
	return Counters{Open: s.open.Load(), Accepted: s.accepted.Load(), Refused: s.refused.Load(), Panics: s.panics.Load()}
}

// WakeChannel implements fanout.LoopSink.
func (l *loop) WakeChannel(ch *fanout.Channel) { l.mail.post(letter{kind: letterWake, ch: ch}) }

// AcksSettled implements fanout.LoopSink.
func (l *loop) AcksSettled() { l.mail.raise(flagAcks) }

// ChannelChanged implements fanout.LoopSink.
func (l *loop) ChannelChanged(ch *fanout.Channel) { l.mail.post(letter{kind: letterChanged, ch: ch}) }

// ChannelGone implements fanout.LoopSink.
func (l *loop) ChannelGone(ch *fanout.Channel) { l.mail.post(letter{kind: letterGone, ch: ch}) }
