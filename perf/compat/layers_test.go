package compat

import (
	"bufio"
	"bytes"
	"compress/flate"
	"crypto/tls"
	"encoding/json"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/snappy"

	"github.com/nsqloop/nsqloop/perf/client"
)

// An identity is the certificate of every daemon that needs one, in files.
type identity struct {
	dir    string
	client *tls.Config
}

// makeIdentity writes the files once; TestMain removes them.
var makeIdentity = sync.OnceValues(func() (identity, error) {
	certificate, err := client.SelfSigned()
	if err != nil {
		return identity{}, err
	}
	if identityDir, err = os.MkdirTemp("", "compat-identity-"); err != nil {
		return identity{}, err
	}
	for name, text := range map[string][]byte{"cert.pem": certificate.Cert, "key.pem": certificate.Key} {
		if err := os.WriteFile(filepath.Join(identityDir, name), text, 0o600); err != nil {
			return identity{}, err
		}
	}
	own, err := tls.X509KeyPair(certificate.Cert, certificate.Key)
	if err != nil {
		return identity{}, err
	}
	config := certificate.Client()
	config.Certificates = []tls.Certificate{own} // for a daemon that asks for one
	return identity{dir: identityDir, client: config}, nil
})

var identityDir string

// identityFlag fills in $cert and $key.
func identityFlag(f string) (string, error) {
	if !strings.Contains(f, "$cert") && !strings.Contains(f, "$key") {
		return f, nil
	}
	id, err := makeIdentity()
	if err != nil {
		return "", err
	}
	return strings.NewReplacer("$cert", filepath.Join(id.dir, "cert.pem"), "$key", filepath.Join(id.dir, "key.pem")).Replace(f), nil
}

// A layer is what a connection writes through: the socket, or what lies on it.
type layer struct {
	w     io.Writer
	flush func() error // nil where a write is a flush
}

func (l layer) write(p []byte) error {
	_, err := l.w.Write(p)
	if err == nil && l.flush != nil {
		err = l.flush()
	}
	return err
}

// upgrade takes up what the answer to an IDENTIFY grants, before the script
// sees that answer. It gives the reader of what follows, and the events so far.
func (c *conn) upgrade(r *bufio.Reader, e event) (*bufio.Reader, []event) {
	var grant struct {
		TLS     bool `json:"tls_v1"`
		Snappy  bool `json:"snappy"`
		Deflate bool `json:"deflate"`
		Level   int  `json:"deflate_level"`
	}
	events := []event{e}
	if e.end != "" || e.kind != frameResponse || !bytes.HasPrefix(e.data, []byte("{")) || json.Unmarshal(e.data, &grant) != nil {
		return r, events
	}
	c.mu.Lock()
	out := c.out
	c.mu.Unlock()
	if grant.TLS {
		secure, err := secured(c.sock, r, c.anonymous.Load())
		if err != nil {
			return r, append(events, event{at: time.Now(), end: "handshake: " + err.Error()})
		}
		out = layer{w: secure}
		r = bufio.NewReader(secure)
		if grant.Snappy || grant.Deflate { // the OK of TLS comes before they begin
			ok := readFrame(r)
			ok.at = time.Now()
			events = append(events, ok)
		}
	}
	// One piece on the wire for one write: the peer may answer, or close, as
	// soon as it has all of a command.
	below := bufio.NewWriterSize(out.w, frameSizeMax)
	switch {
	case grant.Snappy:
		w := s2.NewWriter(below, s2.WriterSnappyCompat(), s2.WriterConcurrency(1))
		out = layer{w, both(w.Flush, below.Flush)}
		r = bufio.NewReader(snappy.NewReader(r))
	case grant.Deflate:
		w, err := flate.NewWriter(below, grant.Level)
		if err != nil {
			return r, append(events, event{at: time.Now(), end: err.Error()})
		}
		out = layer{w, both(w.Flush, below.Flush)}
		r = bufio.NewReader(flate.NewReader(r))
	}
	c.mu.Lock()
	c.out = out
	c.mu.Unlock()
	return r, events
}

// secured is the client's end of TLS over a socket of which r may have read
// something already.
func secured(sock net.Conn, r io.Reader, anonymous bool) (*tls.Conn, error) {
	id, err := makeIdentity()
	if err != nil {
		return nil, err
	}
	config := id.client
	if anonymous {
		config = config.Clone()
		config.Certificates = nil
	}
	conn := tls.Client(readThrough{sock, r}, config)
	return conn, conn.Handshake()
}

func both(first, then func() error) func() error {
	return func() error {
		if err := first(); err != nil {
			return err
		}
		return then()
	}
}

// readThrough is a socket of which something was read already.
type readThrough struct {
	net.Conn
	r io.Reader
}

func (t readThrough) Read(p []byte) (int, error) { return t.r.Read(p) }
