package kafka

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/oauth"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/waysideos/wayside/services/secret"
	"github.com/waysideos/wayside/services/site"
)

// Security is how a cluster is reached: encrypted, and as whom. Files are
// read again for every connection and every login, so that a new certificate
// or password counts from the next one on. Those that the profile does not
// name by their whole path are in folder Secrets.
type Security struct {
	TLS     *site.ClientTLS  // nil: plain text
	SASL    *site.ClientSASL // nil: nobody logs in
	Secrets string
}

// dial wraps d so that a connection is encrypted when it is returned: what
// is wrong with certificates is an error of the connection, and can be told.
func (s Security) dial(d *net.Dialer) func(context.Context, string, string) (net.Conn, error) {
	if s.TLS == nil {
		return d.DialContext
	}
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conf, err := secret.ClientTLS(s.Secrets, s.TLS, "")
		if err != nil {
			return nil, err
		}
		if conf.ServerName == "" {
			conf.ServerName, _, _ = net.SplitHostPort(addr)
		}
		ctx, cancel := context.WithTimeout(ctx, 2*d.Timeout)
		defer cancel()
		raw, err := d.DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		conn := tls.Client(raw, conf)
		if err := conn.HandshakeContext(ctx); err != nil {
			raw.Close()
			return nil, fmt.Errorf("encrypt connection to %s: %w", addr, explain(err))
		}
		return conn, nil
	}
}

// explain adds to a certificate's error what a box can have wrong.
func explain(err error) error {
	var bad x509.CertificateInvalidError
	if errors.As(err, &bad) && bad.Reason == x509.Expired {
		return fmt.Errorf("%w (by the clock of this machine, %s)", err, time.Now().UTC().Format(time.RFC3339))
	}
	return err
}

// login is the mechanism that clients log in with.
func (s Security) login() (sasl.Mechanism, error) {
	user := s.SASL.User
	switch s.SASL.Mechanism {
	case "PLAIN":
		return plain.Plain(func(context.Context) (plain.Auth, error) {
			pass, err := secret.Read(s.Secrets, s.SASL.Password)
			return plain.Auth{User: user, Pass: pass}, err
		}), nil
	case "SCRAM-SHA-256", "SCRAM-SHA-512":
		auth := func(context.Context) (scram.Auth, error) {
			pass, err := secret.Read(s.Secrets, s.SASL.Password)
			return scram.Auth{User: user, Pass: pass}, err
		}
		if s.SASL.Mechanism == "SCRAM-SHA-256" {
			return scram.Sha256(auth), nil
		}
		return scram.Sha512(auth), nil
	case "OAUTHBEARER":
		return oauth.Oauth(func(ctx context.Context) (oauth.Auth, error) {
			token, err := s.token(ctx)
			return oauth.Auth{Token: token, Extensions: s.SASL.Extensions}, err
		}), nil
	}
	return nil, fmt.Errorf("login mechanism %q is unknown", s.SASL.Mechanism)
}

// options are those that a client needs for the security; the dialer's own.
func (s Security) options() ([]kgo.Opt, error) {
	if s.SASL == nil {
		return nil, nil
	}
	m, err := s.login()
	if err != nil {
		return nil, err
	}
	return []kgo.Opt{kgo.SASL(m)}, nil
}
