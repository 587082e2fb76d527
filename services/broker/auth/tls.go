package auth

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"

	"github.com/waysideos/wayside/services/secret"
	"github.com/waysideos/wayside/services/site"
)

// TLSFiles say how a listener encrypts and what certificates it asks for.
type TLSFiles struct {
	Cert, Key string // PEM files; the certificate with its chain
	ClientCA  string // PEM file of the authorities that clients' certificates come from
	// ClientAuth is "none", "request" (a client may show a certificate, and
	// is ANONYMOUS without) or "require"; "" is "none".
	ClientAuth string
	// Rules make a principal of a certificate's subject, in the syntax of
	// Kafka's ssl.principal.mapping.rules; none: "User:" and the subject.
	Rules []string
}

// clientAuth is what ClientAuth's words mean.
var clientAuth = map[string]tls.ClientAuthType{
	"": tls.NoClientCert, "none": tls.NoClientCert,
	"request": tls.VerifyClientCertIfGiven, "require": tls.RequireAndVerifyClientCert,
}

// TLS is how a listener encrypts. Its files are looked at before every
// handshake: new ones count from the next connection on, and broken ones
// leave those before in force.
type TLS struct {
	config *secret.Reloaded[tls.Config]
	rules  []rule
}

// OpenTLS reads certificate, key and authorities.
func OpenTLS(f TLSFiles, log *slog.Logger) (*TLS, error) {
	auth, ok := clientAuth[f.ClientAuth]
	switch {
	case !ok:
		return nil, fmt.Errorf("client_auth %q is none of none, request, require", f.ClientAuth)
	case auth != tls.NoClientCert && f.ClientCA == "":
		return nil, fmt.Errorf("client_auth %s needs client_ca", f.ClientAuth)
	}
	rules, err := parseRules(f.Rules)
	if err != nil {
		return nil, err
	}
	paths, files := []string{f.Cert, f.Key}, &site.ServerTLS{Cert: f.Cert, Key: f.Key, ClientAuth: f.ClientAuth}
	if auth != tls.NoClientCert {
		paths, files.ClientCA = append(paths, f.ClientCA), f.ClientCA
	}
	config, err := secret.Reload(log, func() (*tls.Config, error) { return secret.ServerTLS("", files) }, paths...)
	if err != nil {
		return nil, err
	}
	return &TLS{config, rules}, nil
}

// Server wraps a connection; the handshake is the caller's to make.
func (t *TLS) Server(nc net.Conn) *tls.Conn {
	return tls.Server(nc, &tls.Config{
		MinVersion:         tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return t.config.Get(), nil },
	})
}

// Accept returns a connection that encrypts, if the listener does.
func (l *Listener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil || l.TLS == nil {
		return nc, err
	}
	return l.TLS.Server(nc), nil
}
