package loop

import (
	"bufio"
	"bytes"
	"compress/flate"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"math/big"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/snappy"
	"github.com/stretchr/testify/require"

	"github.com/nsqloop/nsqloop/codec"
)

// authority signs the certificates of a test.
type authority struct {
	pool *x509.CertPool
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

var testAuthority = sync.OnceValue(func() *authority {
	a := &authority{pool: x509.NewCertPool()}
	pair := a.issue("test authority")
	a.cert, a.key = pair.Leaf, pair.PrivateKey.(*ecdsa.PrivateKey)
	a.pool.AddCert(a.cert)
	return a
})

// issue makes a certificate; the first one signs itself and then the others.
func (a *authority) issue(name string) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, BasicConstraintsValid: true, IsCA: a.cert == nil,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		panic(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

var (
	serverCertificate = sync.OnceValue(func() tls.Certificate { return testAuthority().issue("server") })
	clientCertificate = sync.OnceValue(func() tls.Certificate { return testAuthority().issue("client one") })
)

func serverTLS() *tls.Config {
	return &tls.Config{
		Certificates: []tls.Certificate{serverCertificate()}, MinVersion: tls.VersionTLS10, ClientCAs: testAuthority().pool,
		DynamicRecordSizingDisabled: true,
	}
}

func clientTLS() *tls.Config {
	return &tls.Config{RootCAs: testAuthority().pool, ServerName: "127.0.0.1", MinVersion: tls.VersionTLS10}
}

// serveUpgrades offers everything.
func serveUpgrades(t *testing.T, change func(*Options)) *testServer {
	return serve(t, func(o *Options) {
		o.TLS = serverTLS()
		o.Server.Snappy, o.Server.Deflate, o.Server.MaxDeflateLevel = true, true, 9
		if change != nil {
			change(o)
		}
	})
}

// stacked is a client's connection with layers. What w makes of one Write leaves in one.
type stacked struct {
	net.Conn
	r io.Reader
	w interface {
		io.Writer
		Flush() error
	}
	out *bufio.Writer // below w
}

func (s *stacked) Read(p []byte) (int, error) { return s.r.Read(p) }

func (s *stacked) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	if err == nil {
		err = s.w.Flush()
	}
	if err == nil {
		err = s.out.Flush()
	}
	return n, err
}

func (c *client) goTLS(config *tls.Config) *tls.Conn {
	c.t.Helper()
	require.Empty(c.t, c.buf)
	conn := tls.Client(c.Conn, config)
	require.NoError(c.t, conn.SetDeadline(time.Now().Add(patience)))
	require.NoError(c.t, conn.Handshake())
	c.Conn = conn
	c.wantOK()
	return conn
}

// under is what the next layer reads: what came with the answer to IDENTIFY is its already.
func (c *client) under() io.Reader {
	r := io.MultiReader(bytes.NewReader(c.buf), c.Conn)
	c.buf = nil
	return r
}

func (c *client) goSnappy() {
	c.t.Helper()
	out := bufio.NewWriterSize(c.Conn, 1<<20)
	c.Conn = &stacked{Conn: c.Conn, r: snappy.NewReader(c.under()), w: s2.NewWriter(out, s2.WriterSnappyCompat(), s2.WriterConcurrency(1)), out: out}
	c.wantOK()
}

func (c *client) goDeflate(level int) {
	c.t.Helper()
	out := bufio.NewWriterSize(c.Conn, 1<<20)
	w, err := flate.NewWriter(out, level)
	require.NoError(c.t, err)
	c.Conn = &stacked{Conn: c.Conn, r: flate.NewReader(c.under()), w: w, out: out}
	c.wantOK()
}

// layers are combinations a client may ask for, by what it sends and how it then talks.
var layers = map[string]struct {
	ask string
	do  func(*client)
}{
	"snappy":      {`"snappy":true`, func(c *client) { c.goSnappy() }},
	"deflate":     {`"deflate":true`, func(c *client) { c.goDeflate(6) }},
	"deflate 1":   {`"deflate":true,"deflate_level":1`, func(c *client) { c.goDeflate(1) }},
	"deflate 9":   {`"deflate":true,"deflate_level":9`, func(c *client) { c.goDeflate(9) }},
	"tls":         {`"tls_v1":true`, func(c *client) { c.goTLS(clientTLS()) }},
	"tls snappy":  {`"tls_v1":true,"snappy":true`, func(c *client) { c.goTLS(clientTLS()); c.goSnappy() }},
	"tls deflate": {`"tls_v1":true,"deflate":true`, func(c *client) { c.goTLS(clientTLS()); c.goDeflate(6) }},
}

// upgradeTo negotiates one of the layers.
func (s *testServer) upgradeTo(name string) *client {
	s.t.Helper()
	c := s.connect()
	require.Contains(s.t, c.identify(`{"feature_negotiation":true,`+layers[name].ask+`}`), "max_rdy_count")
	layers[name].do(c)
	return c
}

// Each layer carries a conversation, large and small, both ways.
func TestUpgrades(t *testing.T) {
	for name := range layers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serveUpgrades(t, nil)
			p, c := s.upgradeTo(name), s.upgradeTo(name)
			c.subscribe("t", "ch", 2500)
			var bodies []string
			for i := range 300 {
				bodies = append(bodies, strings.Repeat(fmt.Sprint(i), 1+i*i/30))
			}
			bodies = append(bodies, string(incompressible(900_000)), strings.Repeat("z", 1<<20))
			p.publish("t", bodies...)
			for _, want := range bodies {
				m := c.message()
				require.True(t, want == string(m.Body), "%d bytes, want %d", len(m.Body), len(want))
				c.fin(m)
			}
			c.wantSilence()
			eventually(t, "finished", func() bool { return s.Clients()[0].FinishCount+s.Clients()[1].FinishCount == int64(len(bodies)) })
			c.send("WHAT\n")
			c.wantError("E_INVALID invalid command WHAT")
			c.wantClosed()
		})
	}
}

func incompressible(size int) []byte {
	p := make([]byte, size)
	_, _ = rand.Read(p)
	return p
}

// The peer cannot tell how the bytes are cut.
func TestUpgradesBytewise(t *testing.T) {
	for name := range layers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serveUpgrades(t, nil)
			c := &client{Conn: &bytewise{Conn: dialAddr(t, s.Addrs()[0]).Conn}, t: t}
			c.send(codec.MagicV2)
			c.identify(`{"feature_negotiation":true,` + layers[name].ask + `}`)
			layers[name].do(c)
			c.publish("t", "one", "two", strings.Repeat("three", 1000))
			c.subscribe("t", "ch", 10)
			for range 3 {
				c.fin(c.message())
			}
			c.wantSilence()
		})
	}
}

// bytewise sends every byte for itself.
type bytewise struct{ net.Conn }

func (b *bytewise) Write(p []byte) (int, error) {
	for i := range p {
		if _, err := b.Conn.Write(p[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(p), nil
}

// What a client sends behind an upgrade point without waiting is not lost.
func TestUpgradeKeepsWhatIsBehind(t *testing.T) {
	s := serveUpgrades(t, nil)
	c := s.dial()
	var w codec.SnappyWriter
	in := append([]byte(codec.MagicV2), codec.AppendPub(nil, "t", []byte("before"))...)
	in = append(in, codec.AppendIdentify(nil, []byte(`{"feature_negotiation":true,"snappy":true}`))...)
	in = w.Encode(in, append(codec.AppendPub(nil, "t", []byte("behind")), "NOP\nSUB t ch\nFIN 0123456789abcdef\n"...))
	c.sendBytes(in)
	c.wantOK()
	_, data := c.frame()
	require.Contains(t, data, `"snappy":true`)
	c.goSnappy()
	c.wantOK() // of the publish
	c.wantOK() // of the subscription
	c.wantError("E_FIN_FAILED FIN 0123456789abcdef failed ID not in flight")
}

func TestUpgradeRefusals(t *testing.T) {
	s := serveUpgrades(t, nil)
	c := s.connect()
	c.sendBytes(codec.AppendIdentify(nil, []byte(`{"feature_negotiation":true,"snappy":true,"deflate":true}`)))
	c.wantError("E_IDENTIFY_FAILED cannot enable both deflate and snappy compression")
	c.wantClosed()

	c = s.upgradeTo("snappy")
	c.identify(`{"feature_negotiation":true,"client_id":"again"}`)
	c.sendBytes(codec.AppendIdentify(nil, []byte(`{"feature_negotiation":true,"deflate":true}`)))
	c.wantError("E_IDENTIFY_FAILED IDENTIFY failed the connection is compressed already")
	c.wantClosed()

	c = s.upgradeTo("tls")
	c.sendBytes(codec.AppendIdentify(nil, []byte(`{"feature_negotiation":true,"tls_v1":true}`)))
	c.wantError("E_IDENTIFY_FAILED IDENTIFY failed TLS cannot begin inside TLS or compression")
	c.wantClosed()

	c = s.upgradeTo("tls") // compression in a second step
	c.identify(`{"feature_negotiation":true,"snappy":true}`)
	c.goSnappy()
	c.publish("t", "x")
}

func TestTLSVersions(t *testing.T) {
	s := serveUpgrades(t, nil)
	strict := serveUpgrades(t, func(o *Options) { o.TLS.MinVersion = tls.VersionTLS12 })
	for version := uint16(tls.VersionTLS10); version <= tls.VersionTLS13; version++ {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			config := clientTLS()
			config.MaxVersion = version
			c := s.connect()
			c.t = t
			c.identify(`{"feature_negotiation":true,"tls_v1":true,"client_id":"v"}`)
			conn := c.goTLS(config)
			c.publish("t", "x")
			info := s.Clients()[0].TLS
			require.Equal(t, version, info.Version)
			require.Equal(t, conn.ConnectionState().CipherSuite, info.CipherSuite)
			require.NoError(t, conn.Close())
			eventually(t, "closed", func() bool { return len(s.Clients()) == 0 })

			c = strict.connect()
			c.t = t
			c.identify(`{"feature_negotiation":true,"tls_v1":true}`)
			config.MinVersion = version
			if version >= tls.VersionTLS12 {
				c.goTLS(config)
				return
			}
			c.refusedTLS(config, fmt.Sprintf("tls: client offered only unsupported versions: [%x]", version))
		})
	}
}

func TestTLSClientCertificates(t *testing.T) {
	other := &authority{pool: x509.NewCertPool()}
	stranger := other.issue("stranger")
	for _, row := range []struct {
		name   string
		policy tls.ClientAuthType
		cert   *tls.Certificate
		common string
		err    string
	}{
		{"none asked", tls.NoClientCert, nil, "", ""},
		{"any", tls.RequireAnyClientCert, &stranger, "stranger", ""},
		{"any missing", tls.RequireAnyClientCert, nil, "", "tls: client didn't provide a certificate"},
		{"verified", tls.RequireAndVerifyClientCert, ptr(clientCertificate()), "client one", ""},
		{"not verified", tls.RequireAndVerifyClientCert, &stranger, "", "tls: failed to verify certificate: x509: certificate signed by unknown authority"},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := serveUpgrades(t, func(o *Options) { o.TLS.ClientAuth = row.policy })
			c := s.connect()
			c.identify(`{"feature_negotiation":true,"tls_v1":true}`)
			config := clientTLS()
			config.MaxVersion = tls.VersionTLS12 // where the refusal comes within the client's handshake
			if row.cert != nil {
				config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return row.cert, nil }
			}
			if row.err == "" {
				c.goTLS(config)
				require.Equal(t, row.common, s.Clients()[0].TLS.CommonName)
				return
			}
			c.refusedTLS(config, row.err)
		})
	}
}

// refusedTLS tries a handshake that fails. crypto/tls may have read the error frame, in the clear behind the alert.
func (c *client) refusedTLS(config *tls.Config, reason string) {
	c.t.Helper()
	var seen bytes.Buffer
	require.NoError(c.t, c.SetDeadline(time.Now().Add(patience)))
	require.Error(c.t, tls.Client(&tapped{c.Conn, &seen}, config).Handshake())
	left, err := io.ReadAll(c.Conn)
	require.NoError(c.t, err)
	frame := codec.AppendError(nil, codec.IdentifyFailed(reason))
	require.True(c.t, bytes.HasSuffix(append(seen.Bytes(), left...), frame), "%q%q", seen.Bytes(), left)
}

type tapped struct {
	net.Conn
	seen *bytes.Buffer
}

func (t *tapped) Read(p []byte) (int, error) {
	n, err := t.Conn.Read(p)
	t.seen.Write(p[:n])
	return n, err
}

func ptr[T any](v T) *T { return &v }

func TestTLSRequired(t *testing.T) {
	s := serveUpgrades(t, func(o *Options) { o.TLSRequired = true })
	for line, word := range map[string]string{"NOP\n": "NOP", "PUB t\n\x00\x00\x00\x01x": "PUB", "AUTH\n": "AUTH", "WHAT x\n": "WHAT", "\n": ""} {
		c := s.connect()
		c.send(line)
		c.wantError("E_INVALID cannot " + word + " in current state (TLS required)")
		c.wantClosed()
	}
	c := s.connect()
	c.identify(`{"feature_negotiation":true,"snappy":true}`)
	c.goSnappy()
	c.send("SUB t ch\n")
	c.wantError("E_INVALID cannot SUB in current state (TLS required)")
	c.wantClosed()
	c = s.upgradeTo("tls")
	c.publish("t", "x")
}

// A handshake that goes wrong is told in the clear.
func TestTLSHandshakeFails(t *testing.T) {
	s := serveUpgrades(t, nil)
	c := s.connect()
	c.identify(`{"feature_negotiation":true,"tls_v1":true}`)
	c.send("PUB t\n")
	c.wantError("E_IDENTIFY_FAILED IDENTIFY failed tls: first record does not look like a TLS handshake")
	c.wantClosed()

	c = s.connect() // ends after half a record
	c.identify(`{"feature_negotiation":true,"tls_v1":true}`)
	c.send("\x16\x03\x01\x02\x00xxx")
	require.NoError(t, c.Conn.(*net.TCPConn).CloseWrite())
	c.wantError("E_IDENTIFY_FAILED IDENTIFY failed EOF")
	c.wantClosed()

	c = s.connect() // ends after a whole one
	c.identify(`{"feature_negotiation":true,"tls_v1":true}`)
	c.sendBytes(clientHello(t))
	_, err := io.ReadFull(c, make([]byte, 5))
	require.NoError(t, err)
	require.NoError(t, c.Conn.(*net.TCPConn).CloseWrite())
	left, err := io.ReadAll(c)
	require.NoError(t, err)
	require.Contains(t, string(left), "E_IDENTIFY_FAILED IDENTIFY failed EOF")
	eventually(t, "none is left", func() bool { return s.Counters().Open == 0 })
}

// clientHello is the first record of a client.
func clientHello(t *testing.T) []byte {
	t.Helper()
	near, far := net.Pipe()
	defer near.Close()
	go func() { _ = tls.Client(far, clientTLS()).Handshake() }()
	hello := make([]byte, 4096)
	n, err := near.Read(hello)
	require.NoError(t, err)
	return hello[:n]
}

// Half-open handshakes are in nobody's way, end in time, and leave nothing behind.
func TestTLSHalfOpen(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for the handshakes to time out")
	}
	s := serveUpgrades(t, func(o *Options) { o.MaxHandshakes = 1 })
	before := runtime.NumGoroutine()
	hello := clientHello(t)
	const count = 300
	half := make([]*client, count)
	for i := range half {
		c := s.connect()
		c.identify(`{"feature_negotiation":true,"tls_v1":true,"heartbeat_interval":1000}`)
		switch i % 3 {
		case 0: // silent
		case 1:
			c.sendBytes(hello[:len(hello)-1])
		case 2:
			c.sendBytes(hello)
		}
		half[i] = c
	}
	honest := s.upgradeTo("tls deflate") // with one slot, beside a hundred that hold none while they wait
	honest.publish("t", "x")
	honest.subscribe("t", "ch", 10)
	honest.fin(honest.message())
	for _, c := range half {
		require.NoError(t, c.SetReadDeadline(time.Now().Add(patience)))
		left, err := io.ReadAll(c)
		require.NoError(t, err)
		require.Regexp(t, "E_IDENTIFY_FAILED IDENTIFY failed read tcp 127.0.0.1:[0-9]+->127.0.0.1:[0-9]+: i/o timeout$", string(left))
		require.NotContains(t, string(left), "_heartbeat_")
	}
	honest.wantSilence()
	eventually(t, "goroutines and connections are gone", func() bool {
		return s.Counters().Open == 1 && runtime.NumGoroutine() <= before+1 // this function's own
	})
}

// Stop ends handshakes that wait.
func TestTLSStopDuringHandshake(t *testing.T) {
	s := serveUpgrades(t, nil)
	hello := clientHello(t)
	for range 20 {
		c := s.connect()
		c.identify(`{"feature_negotiation":true,"tls_v1":true}`)
		c.sendBytes(hello)
		_, err := io.ReadFull(c, make([]byte, 5))
		require.NoError(t, err)
	}
	require.NoError(t, s.Stop())
}
