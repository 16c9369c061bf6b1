// Package ledger keeps the books of a run against a broker and decides at its end what was promised and what was kept.
//
// Producers write every message into the ledger before it is sent, and again when its OK has arrived. Consumers write every
// delivery, every answer (FIN, REQ) and every event that excuses another delivery. The ledger lives in the rig's process, never on
// the disk under test, so killing the broker does not touch it.
//
// # What a run must tell
//
//	Sent          before the bytes leave          Acked          after the OK
//	Delivered     for each message frame          Finished, Requeued   before the command leaves
//	Barrier       an OK or CLOSE_WAIT arrived on the connection after the answers given: the broker has processed them
//	FinRefused, ReqRefused                        the broker answered E_FIN_FAILED, E_REQ_FAILED
//	Overtaken     after a delivery on a connection that had answered an earlier one of the same message, unconfirmed: the ids are equal
//	Disconnected  before the rig closes a connection; names what that connection has not settled
//	Restarted     after the broker died and every client of the old one has ended
//
// The order matters: a message that is redelivered because of a command can only be judged if the command was written down before
// it was sent.
//
// # Classes
//
// For each channel every acknowledged message ends in one of
//
//	ok            finished, or its FIN was sent and never refused
//	lost-prefix   not finished, before the first ok message of its producer
//	lost-middle   not finished, between two ok messages: never excusable as "not drained yet"
//	lost-suffix   not finished, after the last ok message, or the producer has none
//
// A message that was delivered and then vanished unfinished is as lost as one that never came; LostHeld counts those apart. A message
// that was sent and never acknowledged is unknown: it may come or not. Beside these, events:
//
//	duplicate       delivered again with a cause: timeout, disconnect, requeue, restart. Allowed
//	duplicate-without-cause
//	finished-again  delivered although its FIN was followed by a barrier
//	phantom         the body is one of this run, but was never sent
//	wrong-body      the body is none that this run makes
//	early           before the delay of its DPUB or REQ was over
//	delay-forgotten early after a restart, although its REQ was followed by a barrier
//	attempts-down   with a smaller attempts field than an earlier delivery, and not because it was read late
//
// # Memory
//
// 12 bytes a message and 16 a message and channel, in chunks that never move.
package ledger
