package options

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
)

// ServerTLS is what clients of the TCP protocol and of HTTPS are offered; nil without a certificate. Valid after Validate.
func (o *Nsqd) ServerTLS() *tls.Config { return o.serverTLS }

// ClientTLS is for connections to auth servers. Valid after Validate.
func (o *Nsqd) ClientTLS() *tls.Config { return o.clientTLS }

// loadServerTLS reads certificate, key and authorities. Either file alone is an error, as it names a file that is not there.
func (o *Nsqd) loadServerTLS() error {
	if o.TLSCert == "" && o.TLSKey == "" {
		return nil
	}
	pair, err := tls.LoadX509KeyPair(o.TLSCert, o.TLSKey)
	if err != nil {
		return err
	}
	config := &tls.Config{
		Certificates: []tls.Certificate{pair},
		MinVersion:   uint16(o.TLSMinVersion),
		// Runs of messages are what is sent: full records from the first byte on.
		DynamicRecordSizingDisabled: true,
	}
	switch o.TLSClientAuthPolicy {
	case "require":
		config.ClientAuth = tls.RequireAnyClientCert
	case "require-verify":
		config.ClientAuth = tls.RequireAndVerifyClientCert
	}
	if config.ClientCAs, err = o.authorities(); err != nil {
		return err
	}
	o.serverTLS = config
	return nil
}

func (o *Nsqd) loadClientTLS() (err error) {
	config := &tls.Config{MinVersion: uint16(o.TLSMinVersion)}
	if config.RootCAs, err = o.authorities(); err != nil {
		return err
	}
	o.clientTLS = config
	return nil
}

// authorities reads --tls-root-ca-file; nil without it, which means those of the system.
func (o *Nsqd) authorities() (*x509.CertPool, error) {
	if o.TLSRootCAFile == "" {
		return nil, nil
	}
	text, err := os.ReadFile(o.TLSRootCAFile)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, errors.New("failed to append certificate to pool")
	}
	return pool, nil
}

// Warnings are lines to log once at start, louder than notes.
func (o *Nsqd) Warnings() []string {
	if o.serverTLS != nil && o.TLSMinVersion < tls.VersionTLS12 {
		return []string{"--tls-min-version=" + o.TLSMinVersion.String() + " lets clients use TLS versions that are no longer considered safe; tls1.2 does not"}
	}
	return nil
}
