package compat

// A difference is something nsqloop does otherwise than the stock daemon, on
// purpose. Conversations may expect different things from the two only by
// naming one.
type difference struct {
	id      string
	stock   string
	ours    string
	reason  string
	line    string // the entry of COMPATIBILITY.md that tells users
	builtIn bool   // checked by the code of the suite instead of by a variant line
}

var differences = []difference{
	{
		id:     "version",
		stock:  "1.3.0 in the IDENTIFY reply",
		ours:   "1.3.0+nsqloop.X",
		reason: "a client that compares versions sees 1.3.0, a person sees what really runs",
		line:   "Version string: 1.3.0+nsqloop.X where stock says 1.3.0",
	},
	{
		id:      "id-bit-63",
		stock:   "message ids are made of time, bit 63 is clear",
		ours:    "message ids are made of node, stream and position, bit 63 is set",
		reason:  "an id is derived from the message's place in the log and can never collide with an imported stock id",
		line:    "Message ids: 16 lower-case hex digits as before, but not a time",
		builtIn: true,
	},
	{
		id:      "attempts-saturate",
		stock:   "attempts wraps from 65535 to 0",
		ours:    "attempts stops at 65534",
		reason:  "a count that starts again hides a message that never succeeds; two values mark untouched and finished",
		line:    "Attempts: stops at 65,534 instead of wrapping",
		builtIn: true,
	},
	{
		id:     "magic-timeout",
		stock:  "waits for the four bytes of the magic for ever",
		ours:   "closes after --magic-timeout, 5 s",
		reason: "connections that never speak otherwise hold descriptors for ever",
		line:   "Magic: --magic-timeout, 5 s; 0 waits for ever as stock",
	},
	{
		id:     "closed-connection-gives-back",
		stock:  "messages of a closed connection wait for msg_timeout",
		ours:   "given back at once the first time, then after 100 ms x 2^n; counted as timeouts",
		reason: "nobody can finish them any more; the growing delay keeps a message that crashes its consumers from burning its attempts",
		line:   "Closed connections: their messages come back at once",
	},
	{
		id:     "expiry-precise",
		stock:  "the first timeout or deferral on a new channel may be 5 s late",
		ours:   "on time",
		reason: "stock looks for new channels every 5 s only",
		line:   "Timeouts and deferrals: on time on new channels as well",
	},
	{
		id:     "no-output-buffer-wait",
		stock:  "with output_buffer_timeout -1 a message for a ready client waits for the next response or heartbeat",
		ours:   "delivered with its batch",
		reason: "the client allows waiting, it does not ask for it",
		line:   "Output buffering: values are accepted and reported, a message never waits",
	},
	{
		id:     "deferral-survives",
		stock:  "a deferred message is delivered at once after a clean restart",
		ours:   "it waits on",
		reason: "the due time is on the disk",
		line:   "DPUB and REQ: delays survive restarts and kills",
	},
	{
		id:     "kept-at-sigkill",
		stock:  "what waits in memory is lost at SIGKILL",
		ours:   "kept",
		reason: "the reason for this project",
		line:   "SIGKILL: loses nothing that was acknowledged",
	},
	{
		id:     "requeue-needs-no-disk",
		stock:  "REQ may fail with E_REQ_FAILED and the disk error when the disk refuses",
		ours:   "REQ 0 writes to no file that could be refused",
		reason: "a requeued message stays where it is in the log, only its state changes",
		line:   "REQ: never fails for want of disk",
	},
	{
		id:      "sync-every",
		stock:   "--sync-every is 2500",
		ours:    "0: by time only",
		reason:  "syncing by count costs far more than by time",
		line:    "--sync-every: 0",
		builtIn: true,
	},
}
