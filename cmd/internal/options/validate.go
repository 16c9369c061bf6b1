package options

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// topologyExperiment is the one experiment the stock daemon knows.
const topologyExperiment = "topology-aware-consumption"

// Validate checks what the types cannot, in the stock daemon's order and words, and loads certificates. The data path is locked before
// it is called. A policy for client certificates implies that TLS is required.
func (o *Nsqd) Validate() error {
	if o.MaxDeflateLevel < 1 || o.MaxDeflateLevel > 9 {
		return fmt.Errorf("--max-deflate-level must be [1,9]")
	}
	if o.ID < 0 || o.ID >= 1024 {
		return fmt.Errorf("--node-id must be [0,1024)")
	}
	if o.TLSClientAuthPolicy != "" && o.TLSRequired == TLSNotRequired {
		o.TLSRequired = TLSRequiredEverywhere
	}
	if err := o.loadServerTLS(); err != nil {
		return fmt.Errorf("failed to build TLS config - %w", err)
	}
	if o.serverTLS == nil && o.TLSRequired != TLSNotRequired {
		return fmt.Errorf("cannot require TLS client connections without TLS key and cert")
	}
	if err := o.loadClientTLS(); err != nil {
		return fmt.Errorf("failed to build client TLS config - %w", err)
	}
	if o.AuthHTTPRequestMethod != "get" && o.AuthHTTPRequestMethod != "post" {
		return fmt.Errorf("--auth-http-request-method must be post or get")
	}
	for _, p := range o.E2EProcessingLatencyPercentiles {
		if !(p > 0 && p <= 1) {
			return fmt.Errorf("invalid E2E processing latency percentile: %v", p)
		}
	}
	if err := o.validateOwn(); err != nil {
		return err
	}
	return o.refuseExperiment()
}

// validateOwn checks the ranges of options the stock daemon does not have, or does not check and fails on later.
func (o *Nsqd) validateOwn() error {
	atLeast := []struct {
		flag     string
		got, min int64
	}{
		{"max-msg-size", o.MaxMsgSize, 1},
		{"max-body-size", o.MaxBodySize, 1},
		{"max-bytes-per-file", o.MaxBytesPerFile, 1},
		{"mem-queue-size", o.MemQueueSize, 0},
		{"sync-every", o.SyncEvery, 0},
		{"disk-reserve", o.DiskReserve, 0},
		{"loops", int64(o.Loops), 0},
		{"max-connections", int64(o.MaxConnections), 0},
		{"max-tls-handshakes", int64(o.MaxTLSHandshakes), 0},
		{"max-topics", int64(o.MaxTopics), 1},
		{"max-channels-per-topic", int64(o.MaxChannelsPerTopic), 1},
		{"metrics-max-series", int64(o.MetricsMaxSeries), 0},
		{"statsd-udp-packet-size", int64(o.StatsdUDPPacketSize), 1},
	}
	for _, c := range atLeast {
		if c.got < c.min {
			return fmt.Errorf("--%s must be at least %d", c.flag, c.min)
		}
	}
	if o.SyncTimeout <= 0 {
		return fmt.Errorf("--sync-timeout must be positive")
	}
	if o.StatsdInterval <= 0 {
		return fmt.Errorf("--statsd-interval must be positive")
	}
	if o.MagicTimeout < 0 {
		return fmt.Errorf("--magic-timeout must not be negative")
	}
	return nil
}

// refuseExperiment refuses to start with an experiment that is not here: silently ignoring it would mislead.
func (o *Nsqd) refuseExperiment() error {
	if slices.Contains(o.Experiments, topologyExperiment) {
		return fmt.Errorf("--enable-experiment=%s is not supported yet by this version", topologyExperiment)
	}
	return nil
}

// Notes are lines to log once at start: what is accepted, but does not do what its name says.
func (o *Nsqd) Notes() []string {
	var notes []string
	if names := o.given(inert); len(names) > 0 {
		notes = append(notes, fmt.Sprintf("--%s: accepted, but there is nothing to steer: time-outs are found without scanning channels",
			strings.Join(names, ", --")))
	}
	return notes
}

// given lists the flags of one kind whose value is not the default.
func (o *Nsqd) given(kind support) []string {
	var names []string
	defaults := Default().entries()
	for i, e := range o.entries() {
		if e.support == kind && !equal(value(e), value(defaults[i])) {
			names = append(names, e.flag)
		}
	}
	return names
}

// equal treats a nil list and an empty one alike.
func equal(a, b any) bool {
	av, bv := reflect.ValueOf(a), reflect.ValueOf(b)
	if av.Kind() == reflect.Slice && av.Len() == 0 && bv.Len() == 0 {
		return true
	}
	return reflect.DeepEqual(a, b)
}
