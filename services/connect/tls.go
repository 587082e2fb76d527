package connect

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"

	"github.com/waysideos/wayside/services/site"
)

// ServerTLS is how a listener of the profile encrypts. Its files are read for
// every connection, so that new ones need no restart; one that cannot be read
// fails the handshake.
func (b *Box) ServerTLS(t *site.ServerTLS) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return b.loadTLS(t) },
	}
}

func (b *Box) loadTLS(t *site.ServerTLS) (*tls.Config, error) {
	cert, err := tls.LoadX509KeyPair(b.SecretPath(t.Cert), b.SecretPath(t.Key))
	if err != nil {
		return nil, fmt.Errorf("read certificate and key: %w", err)
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}}
	switch t.ClientAuth {
	case "request":
		c.ClientAuth = tls.VerifyClientCertIfGiven
	case "require":
		c.ClientAuth = tls.RequireAndVerifyClientCert
	}
	if t.ClientCA == "" {
		return c, nil
	}
	pem, err := os.ReadFile(b.SecretPath(t.ClientCA))
	if err != nil {
		return nil, fmt.Errorf("read authorities of clients: %w", err)
	}
	c.ClientCAs = x509.NewCertPool()
	if !c.ClientCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("read authorities of clients: %s holds no certificate", t.ClientCA)
	}
	return c, nil
}
