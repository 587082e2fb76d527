package mqtt

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/waysideos/wayside/services/site"
)

// reloaded is what files say, read again when they change. Files that are
// wrong leave what was read before, and are complained of once.
type reloaded[T any] struct {
	paths []string
	load  func() (*T, error)
	log   *slog.Logger

	mu    sync.Mutex
	seen  string // what the files looked like when they were read last
	value *T
}

func newReloaded[T any](log *slog.Logger, load func() (*T, error), paths ...string) (*reloaded[T], error) {
	r := &reloaded[T]{paths: paths, load: load, log: log, seen: look(paths)}
	var err error
	if r.value, err = load(); err != nil {
		r.value = new(T)
	}
	return r, err
}

func (r *reloaded[T]) get() *T {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := look(r.paths)
	if now == r.seen {
		return r.value
	}
	r.seen = now
	v, err := r.load()
	if err != nil {
		r.log.Error("changed files are not taken, the ones before stay in force", "files", strings.Join(r.paths, " "), "error", err)
		return r.value
	}
	r.value = v
	r.log.Info("changed files are in force", "files", strings.Join(r.paths, " "))
	return v
}

func look(paths []string) string {
	var b strings.Builder
	for _, p := range paths {
		if fi, err := os.Stat(p); err == nil {
			fmt.Fprintf(&b, "%d %d %d;", fi.ModTime().UnixNano(), fi.Size(), fi.Mode())
			continue
		}
		b.WriteString("none;")
	}
	return b.String()
}

// secretPath is where a file of the profile is.
func secretPath(dir, name string) string {
	if name == "" || filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(dir, name)
}

// loadTLS reads certificate, key and authorities of a listener.
func loadTLS(t *site.ServerTLS, dir string) (*tls.Config, error) {
	certFile, keyFile := secretPath(dir, t.Cert), secretPath(dir, t.Key)
	cert, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, fmt.Errorf("load certificate %s with key %s: %v", certFile, keyFile, err)
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}}
	switch t.ClientAuth {
	case "", "none":
		return conf, nil
	case "request":
		conf.ClientAuth = tls.VerifyClientCertIfGiven
	default:
		conf.ClientAuth = tls.RequireAndVerifyClientCert
	}
	pem, err := os.ReadFile(secretPath(dir, t.ClientCA))
	if err != nil {
		return nil, fmt.Errorf("read client authorities: %v", err)
	}
	conf.ClientCAs = x509.NewCertPool()
	if !conf.ClientCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("read client authorities: %s holds no certificate", t.ClientCA)
	}
	return conf, nil
}
