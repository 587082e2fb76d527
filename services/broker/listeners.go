package broker

import (
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"time"

	"github.com/waysideos/wayside/services/broker/auth"
	"github.com/waysideos/wayside/services/site"
)

// Listen opens a listener of the site profile. Files that the profile does
// not name by their whole path are those of folder secrets.
func Listen(l site.Listener, secrets string, log *slog.Logger) (net.Listener, error) {
	s, err := SecurityOf(l, secrets, log)
	if err != nil {
		return nil, fmt.Errorf("listener %s: %w", l.Name, err)
	}
	ln, err := net.Listen("tcp", l.Listen)
	if err != nil {
		return nil, fmt.Errorf("listener %s: %w", l.Name, err)
	}
	return &auth.Listener{Listener: ln, Security: *s}, nil
}

// TrustBox lets the box's own services, which come from a loopback address,
// do everything on a listener.
func TrustBox(ln net.Listener) net.Listener {
	return &auth.Listener{Listener: ln, Security: auth.Security{Name: "default", TrustBox: true}}
}

// SecurityOf reads the files that a listener's security needs.
func SecurityOf(l site.Listener, secrets string, log *slog.Logger) (*auth.Security, error) {
	file := func(name string) string {
		if name == "" || filepath.IsAbs(name) {
			return name
		}
		return filepath.Join(secrets, name)
	}
	s := &auth.Security{Name: l.Name, Advertise: dialled}
	if l.Advertised != "" {
		fixed, err := advertiser(l.Advertised)
		if err != nil {
			return nil, err
		}
		s.Advertise = fixed
	}
	if t := l.TLS; t != nil {
		var err error
		s.TLS, err = auth.OpenTLS(auth.TLSFiles{
			Cert: file(t.Cert), Key: file(t.Key), ClientCA: file(t.ClientCA), ClientAuth: t.ClientAuth, Rules: t.Principals,
		}, log)
		if err != nil {
			return nil, err
		}
	}
	if l.SASL == nil {
		return s, nil
	}
	var err error
	s.SASL, err = saslOf(l.SASL, file, log)
	return s, err
}

func saslOf(l *site.SASL, file func(string) string, log *slog.Logger) (*auth.SASL, error) {
	s := &auth.SASL{Mechanisms: l.Mechanisms, MaxSession: time.Duration(l.MaxSession) * time.Second}
	var err error
	if l.Users != "" {
		if s.Users, err = auth.OpenUsers(file(l.Users), log); err != nil {
			return nil, err
		}
	}
	if o := l.OAuth; o != nil {
		s.OAuth, err = auth.OpenOAuth(auth.OAuthFiles{
			JWKS: file(o.JWKS), Issuer: o.Issuer, Audience: o.Audience, Claim: o.Claim,
		}, log)
		if err != nil {
			return nil, err
		}
	}
	return s, s.Check()
}
