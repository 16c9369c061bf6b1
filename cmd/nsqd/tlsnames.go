package main

import (
	"crypto/tls"
	"fmt"
	"slices"

	"github.com/nsqloop/nsqloop/httpapi"
	"github.com/nsqloop/nsqloop/loop"
)

// namedSuites are the cipher suites that the stock daemon shows by name; tools see the others as numbers.
var namedSuites = []uint16{
	tls.TLS_RSA_WITH_RC4_128_SHA, tls.TLS_RSA_WITH_3DES_EDE_CBC_SHA, tls.TLS_RSA_WITH_AES_128_CBC_SHA, tls.TLS_RSA_WITH_AES_256_CBC_SHA,
	tls.TLS_ECDHE_ECDSA_WITH_RC4_128_SHA, tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA,
	tls.TLS_ECDHE_RSA_WITH_RC4_128_SHA, tls.TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA, tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA,
	tls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
}

// showTLS fills in what /stats tells of a connection's TLS; nothing without.
func showTLS(to *httpapi.Client, info *loop.TLSInfo) {
	if info == nil {
		return
	}
	to.TLS = true
	to.TLSCipherSuite = fmt.Sprintf("Unknown %d", info.CipherSuite)
	if slices.Contains(namedSuites, info.CipherSuite) {
		to.TLSCipherSuite = tls.CipherSuiteName(info.CipherSuite)
	}
	to.TLSVersion = fmt.Sprintf("Unknown %d", info.Version)
	if info.Version >= tls.VersionTLS10 && info.Version <= tls.VersionTLS13 {
		to.TLSVersion = fmt.Sprintf("TLS1.%d", info.Version-tls.VersionTLS10)
	}
	to.TLSProtocol, to.TLSProtocolIsMutual = info.Protocol, info.Mutual
}
