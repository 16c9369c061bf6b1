package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nsqio/go-nsq"
	"github.com/stretchr/testify/require"
)

// certificate writes a certificate for 127.0.0.1 and its key, and gives what trusts it.
func certificate(t *testing.T) (cert, key string, pool *x509.CertPool) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "nsqd"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), BasicConstraintsValid: true, IsCA: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	require.NoError(t, err)
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(t, err)
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	require.NoError(t, os.WriteFile(cert, text, 0o600))
	require.NoError(t, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600))
	pool = x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM(text))
	return cert, key, pool
}

// A daemon with everything on: TLS is required, /stats tells of it, HTTPS answers where HTTP names it.
func TestTLSEverywhere(t *testing.T) {
	cert, key, pool := certificate(t)
	p := launch(t, t.TempDir(), "-tls-cert="+cert, "-tls-key="+key, "-tls-required", "-https-address=127.0.0.1:0")
	p.logged(t, "WARNING: --tls-min-version=tls1.0 lets clients")
	p.logged(t, "INFO: HTTPS: listening on ")
	https := regexp.MustCompile(`HTTPS: listening on (\S+)`).FindStringSubmatch(strings.Join(p.log(), "\n"))[1]

	config := nsq.NewConfig()
	config.TlsV1, config.Snappy = true, true
	config.TlsConfig = &tls.Config{RootCAs: pool, ServerName: "127.0.0.1", MaxVersion: tls.VersionTLS12}
	producer, err := nsq.NewProducer(p.tcp, config)
	require.NoError(t, err)
	producer.SetLoggerLevel(nsq.LogLevelMax)
	require.NoError(t, producer.Publish("t", []byte("x")))

	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DisableKeepAlives: true}}
	resp, err := client.Get("https://" + https + "/stats?format=json")
	require.NoError(t, err)
	defer resp.Body.Close()
	var stats struct {
		Producers []struct {
			Snappy, Deflate, TLS bool
			Version              string `json:"tls_version"`
			Suite                string `json:"tls_cipher_suite"`
		}
	}
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&stats))
	require.Len(t, stats.Producers, 1)
	got := stats.Producers[0]
	require.True(t, got.Snappy && got.TLS && !got.Deflate)
	require.Equal(t, "TLS1.2", got.Version)
	require.Equal(t, "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", got.Suite)
	producer.Stop()

	plain, err := http.Get("http://" + p.http + "/ping")
	require.NoError(t, err)
	body, err := io.ReadAll(plain.Body)
	require.NoError(t, err)
	require.NoError(t, plain.Body.Close())
	_, port, err := net.SplitHostPort(https)
	require.NoError(t, err)
	require.Equal(t, `{"message": "TLS_REQUIRED", "https_port": `+port+`}`, string(body))
	p.stop(t)
	require.Contains(t, strings.Join(p.log(), "\n"), "INFO: HTTPS: closing "+https)
}
