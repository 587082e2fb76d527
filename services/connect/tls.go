package connect

import (
	"crypto/tls"

	"github.com/waysideos/wayside/services/secret"
	"github.com/waysideos/wayside/services/site"
)

// ServerTLS is how a listener of the profile encrypts. Its files are read for
// every connection, so that new ones need no restart; one that cannot be read
// fails the handshake.
func (b *Box) ServerTLS(t *site.ServerTLS) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return secret.ServerTLS(b.cfg.Secrets, t) },
	}
}

// ClientTLS is how a client encrypts, by the files as they are now: host is the
// name that the server's certificate has to have, if t says no other. t may be
// nil.
func (b *Box) ClientTLS(t *site.ClientTLS, host string) (*tls.Config, error) {
	return secret.ClientTLS(b.cfg.Secrets, t, host)
}
