package httpapi

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func selfSigned(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "server"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), BasicConstraintsValid: true, IsCA: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	leaf, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// serveSecure starts a fixture with both listeners and gives the configuration of a client and the address of HTTPS.
func serveSecure(t *testing.T, change func(*Options), server func(*tls.Config)) (f *fixture, client *tls.Config, addr string) {
	t.Helper()
	secure, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	cert := selfSigned(t)
	config := &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS10}
	if server != nil {
		server(config)
	}
	f = newFixtureWith(t, func(o *Options) {
		o.HTTPSPort = Port(secure)
		if change != nil {
			change(o)
		}
	}, func(s *Server) { s.AddTLS(secure, config, 1) })
	pool := x509.NewCertPool()
	pool.AddCert(cert.Leaf)
	return f, &tls.Config{RootCAs: pool, ServerName: "127.0.0.1"}, secure.Addr().String()
}

func dialSecure(t *testing.T, config *tls.Config, addr string) *talker {
	t.Helper()
	c := dial(t, "tcp", addr)
	conn := tls.Client(c.Conn, config)
	require.NoError(t, conn.Handshake())
	return &talker{conn, bufio.NewReader(conn)}
}

// rows: h1.https
func TestHTTPS(t *testing.T) {
	f, config, addr := serveSecure(t, nil, nil)
	require.NotEmpty(t, f.log.with("INFO HTTPS: listening on "+addr))
	c := dialSecure(t, config, addr)
	for range 3 { // on one connection
		c.send(t, req("POST", "/pub?topic=t", strings.Repeat("x", 300_000)))
		got, err := c.read("POST")
		require.NoError(t, err)
		require.Equal(t, "OK", got.body)
	}
	require.EqualValues(t, 3, f.broker.LookupTopic("t").Stats().MessageCount)
	require.Equal(t, "OK", f.call(t, "GET", "/ping", "").body, "the plain listener serves as well")

	c = dialSecure(t, config, addr) // a body that is refused unread: the answer arrives all the same
	c.send(t, "POST /pub?topic=t HTTP/1.1\r\nHost: h\r\nContent-Length: 2000000\r\n\r\n"+strings.Repeat("y", 100_000))
	got, err := c.read("POST")
	require.NoError(t, err)
	require.Equal(t, 413, got.status)
}

// rows: h1#tls-required
func TestTLSRequiredOverHTTP(t *testing.T) {
	f, config, addr := serveSecure(t, func(o *Options) { o.TLSRequired = true }, nil)
	_, port, err := net.SplitHostPort(addr)
	require.NoError(t, err)
	want := `{"message": "TLS_REQUIRED", "https_port": ` + port + `}`
	for _, call := range [][3]string{{"GET", "/ping", ""}, {"POST", "/pub?topic=t", "x"}, {"OPTIONS", "*", ""}, {"GET", "/nope", ""}, {"PUT", "//x", strings.Repeat("z", 1<<20)}} {
		got := f.call(t, call[0], call[1], call[2])
		require.Equal(t, 403, got.status, call)
		require.Equal(t, want, got.body)
		require.Equal(t, nsqJSON["Content-Type"], got.header.Get("Content-Type"))
		require.Equal(t, nsqVersion, got.header.Get(nsqHeader))
	}
	require.Empty(t, f.log.with("INFO 403"))
	require.Nil(t, f.broker.LookupTopic("t"))
	c := dialSecure(t, config, addr)
	c.send(t, req("GET", "/ping", ""))
	got, err := c.read("GET")
	require.NoError(t, err)
	require.Equal(t, 200, got.status)
}

// rows: h1#plain-on-https
func TestHTTPSHandshakes(t *testing.T) {
	f, config, addr := serveSecure(t, nil, func(c *tls.Config) { c.ClientAuth = tls.RequireAnyClientCert })
	c := dial(t, "tcp", addr)
	c.send(t, req("GET", "/ping", ""))
	answer, err := io.ReadAll(c)
	require.NoError(t, err)
	require.Equal(t, "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n", string(answer))
	require.Len(t, f.log.with("WARNING http: TLS handshake error from "+c.LocalAddr().String()+": client sent an HTTP request to an HTTPS server"), 1)

	config.MaxVersion = tls.VersionTLS12
	require.Error(t, tls.Client(dial(t, "tcp", addr).Conn, config).Handshake())
	require.Eventually(t, func() bool {
		return len(f.log.with(": tls: client didn't provide a certificate")) == 1
	}, 20*time.Second, time.Millisecond)

	// With one slot, connections that say nothing or half of it are in nobody's way.
	for range 20 {
		c := dial(t, "tcp", addr)
		c.send(t, "\x16\x03\x01\x02\x00xxx")
	}
	config.Certificates = []tls.Certificate{selfSigned(t)}
	ok := dialSecure(t, config, addr)
	ok.send(t, req("GET", "/ping", ""))
	got, err := ok.read("GET")
	require.NoError(t, err)
	require.Equal(t, 200, got.status)
	require.Empty(t, f.log.with("error when serving"))
}
