package secret

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"

	"github.com/waysideos/wayside/services/site"
)

// ServerTLS reads how a listener encrypts and what certificates it asks for.
// It is a configuration of its own each time: tickets given out under one set
// of files are worth nothing under the next.
func ServerTLS(dir string, t *site.ServerTLS) (*tls.Config, error) {
	certFile, keyFile := Path(dir, t.Cert), Path(dir, t.Key)
	cert, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, fmt.Errorf("load certificate %s with key %s: %w", certFile, keyFile, err)
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}}
	switch t.ClientAuth {
	case "request":
		conf.ClientAuth = tls.VerifyClientCertIfGiven
	case "require":
		conf.ClientAuth = tls.RequireAndVerifyClientCert
	}
	if t.ClientCA == "" {
		return conf, nil
	}
	if conf.ClientCAs, err = authorities(Path(dir, t.ClientCA)); err != nil {
		return nil, fmt.Errorf("read client authorities: %w", err)
	}
	return conf, nil
}

// ClientTLS reads how a client encrypts; host is the name that the server's
// certificate has to have, if t says no other. t may be nil.
func ClientTLS(dir string, t *site.ClientTLS, host string) (*tls.Config, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host}
	if t == nil {
		return conf, nil
	}
	if t.ServerName != "" {
		conf.ServerName = t.ServerName
	}
	if t.CA != "" {
		var err error
		if conf.RootCAs, err = authorities(Path(dir, t.CA)); err != nil {
			return nil, fmt.Errorf("read authorities: %w", err)
		}
	}
	if t.Cert != "" {
		cert, err := tls.LoadX509KeyPair(Path(dir, t.Cert), Path(dir, t.Key))
		if err != nil {
			return nil, fmt.Errorf("read client certificate: %w", err)
		}
		conf.Certificates = []tls.Certificate{cert}
	}
	return conf, nil
}

func authorities(file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate in PEM form", file)
	}
	return pool, nil
}
