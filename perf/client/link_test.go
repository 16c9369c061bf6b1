package client

import (
	"context"
	"crypto/tls"
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nsqloop/nsqloop/codec"
)

// negotiator is a broker that puts on the layers it grants, and then answers a NOP with OK.
func negotiator(t *testing.T, certificate tls.Certificate, grant, secure, snappy bool) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		in := make([]byte, 4096)
		_, _ = conn.Read(in) // one write holds the magic and IDENTIFY
		answer := `{"tls_v1":false,"snappy":false}`
		if grant {
			answer = map[[2]bool]string{
				{true, false}: `{"tls_v1":true,"snappy":false}`, {false, true}: `{"tls_v1":false,"snappy":true}`, {true, true}: `{"tls_v1":true,"snappy":true}`,
			}[[2]bool{secure, snappy}]
		}
		_, _ = conn.Write(codec.AppendResponse(nil, answer))
		if secure {
			conn = tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{certificate}})
			_, _ = conn.Write(codec.FrameOK)
		}
		layered := net.Conn(conn)
		if snappy {
			layered = newSnappyConn(conn, nil)
			_, _ = layered.Write(codec.FrameOK)
		}
		n, _ := layered.Read(in)
		if string(in[:n]) == string(codec.AppendNop(nil)) {
			_, _ = layered.Write(codec.FrameCloseWait)
		}
	}()
	t.Cleanup(func() { require.NoError(t, listener.Close()); <-done })
	return listener.Addr().String()
}

func TestLinksNegotiateTheirLayers(t *testing.T) {
	certificate, err := SelfSigned()
	require.NoError(t, err)
	pair, err := tls.X509KeyPair(certificate.Cert, certificate.Key)
	require.NoError(t, err)
	for _, layers := range [][2]bool{{true, false}, {false, true}, {true, true}} {
		link := Link{Snappy: layers[1]}
		if layers[0] {
			link.TLS = certificate.Client()
		}
		c, err := link.Dial(context.Background(), negotiator(t, pair, true, layers[0], layers[1]), nil)
		require.NoError(t, err, layers)
		c.Out = codec.AppendNop(c.Out)
		require.NoError(t, c.Expect("CLOSE_WAIT"), layers)
		require.NoError(t, c.Close())

		_, err = link.Dial(context.Background(), negotiator(t, pair, false, layers[0], layers[1]), nil)
		require.ErrorContains(t, err, "does not go along", "a layer that is not granted must not go unnoticed")
	}
}

func TestAForeignCertificateIsRefused(t *testing.T) {
	certificate, err := SelfSigned()
	require.NoError(t, err)
	other, err := SelfSigned()
	require.NoError(t, err)
	pair, err := tls.X509KeyPair(other.Cert, other.Key)
	require.NoError(t, err)
	_, err = Link{TLS: certificate.Client()}.Dial(context.Background(), negotiator(t, pair, true, true, false), nil)
	require.ErrorContains(t, err, "certificate")
}
