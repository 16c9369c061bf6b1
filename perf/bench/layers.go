package main

import (
	"os"
	"path/filepath"

	"github.com/nsqloop/nsqloop/perf/client"
)

// putOnLayers makes what -tls and -snappy need on both sides. Files go into dir, which must outlive the run.
func (o *options) putOnLayers(dir string) error {
	o.link = client.Link{Snappy: o.snappy}
	if !o.tls {
		return nil
	}
	certificate, err := client.SelfSigned()
	if err != nil {
		return err
	}
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	if err := os.WriteFile(cert, certificate.Cert, 0o600); err != nil {
		return err
	}
	if err := os.WriteFile(key, certificate.Key, 0o600); err != nil {
		return err
	}
	o.link.TLS = certificate.Client()
	o.layerArgs = []string{"--tls-cert=" + cert, "--tls-key=" + key, "--https-address="}
	return nil
}

// layers says what lies between the messages and the sockets.
func (o options) layers() string {
	text := ""
	if o.tls {
		text += "TLS 1.3, "
	}
	if o.snappy {
		text += "snappy, "
	}
	return text
}

// layerFloors are what counts under TLS and under snappy, for all rows of a workload; workloads that are not named have no floor there,
// and neither have both layers together.
var layerFloors = map[string]struct{ tls, snappy floor }{
	"drain": {times(6), times(4)},
	"mpub":  {times(4), times(3)},
}

// floorsOf are the floors of a row of w in this run.
func (o options) floorsOf(w workload, r row) []floor {
	switch {
	case o.tls && o.snappy:
		return nil
	case o.tls:
		return []floor{layerFloors[w.name].tls}
	case o.snappy:
		return []floor{layerFloors[w.name].snappy}
	}
	return r.floors
}
