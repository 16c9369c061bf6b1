package fanout

// A topic that is created while an nsqd runs may have channels elsewhere in the cluster, which somebody has to ask for. Until the answer is there the
// topic is starting: publishes are taken as ever, but are held back, so that every channel created meanwhile gets them.

// awaitStarting asks whether the topic, which nobody else knows yet, shall be starting.
func (t *Topic) awaitStarting() {
	t.starting, t.started = true, make(chan struct{})
	if !t.b.opts.Starting(t) {
		t.Start()
	}
}

// Start ends the starting of a topic: what was held back becomes visible, unless there is another reason to hold it. Any number of calls. Any goroutine.
func (t *Topic) Start() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.starting {
		return
	}
	t.starting = false
	defer close(t.started)
	if t.deleted.Load() || t.meta.Paused || len(*t.list.Load()) == 0 {
		return
	}
	if err := t.setMode(false, len(*t.list.Load()), t.save); err != nil {
		// The channels' own records say the same to the next start.
		t.b.opts.Warn("TOPIC(%s): %v", t.name, err)
		t.meta.Held = false
		t.showHeld()
	}
	t.wakeAll()
}

// AwaitStart waits until the topic is no longer starting. Not for loops.
func (t *Topic) AwaitStart() {
	if t.started != nil {
		<-t.started
	}
}
