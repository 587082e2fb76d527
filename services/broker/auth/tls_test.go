package auth

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"path/filepath"
	"testing"
	"time"
)

// authority signs certificates for a test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB, name string) *authority {
	t.Helper()
	a := &authority{}
	a.cert, a.key = a.sign(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	})
	return a
}

func (a *authority) sign(t testing.TB, c *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	c.SerialNumber, err = rand.Int(rand.Reader, big.NewInt(1<<62))
	must(t, err)
	c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, parentKey := a.cert, a.key
	if parent == nil {
		parent, parentKey = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), parentKey)
	must(t, err)
	cert, err := x509.ParseCertificate(der)
	must(t, err)
	return cert, key
}

// pair is a certificate with its key, as PEM.
func (a *authority) pair(t testing.TB, subject pkix.Name) (cert, key string) {
	t.Helper()
	c, k := a.sign(t, &x509.Certificate{
		Subject: subject, DNSNames: []string{"broker"}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
	der, err := x509.MarshalPKCS8PrivateKey(k)
	must(t, err)
	return pemOf("CERTIFICATE", c.Raw), pemOf("PRIVATE KEY", der)
}

func pemOf(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

// shake connects a client to a server.
func shake(t testing.TB, s *TLS, c *tls.Config) (client, server *tls.Conn, err error) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0") // a pipe would not take an alert that nobody reads
	must(t, err)
	defer ln.Close()
	a, err := net.Dial("tcp", ln.Addr().String())
	must(t, err)
	b, err := ln.Accept()
	must(t, err)
	t.Cleanup(func() { a.Close(); b.Close() })
	client, server = tls.Client(a, c), s.Server(b)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		err := client.HandshakeContext(ctx)
		if err != nil {
			a.Close()
		}
		done <- err
	}()
	err = server.HandshakeContext(ctx)
	if err != nil {
		b.Close()
	}
	if cerr := <-done; err == nil {
		err = cerr
	}
	return client, server, err
}

// TestTLSReload: files that change count from the next connection on, what is
// open goes on, and broken files change nothing.
func TestTLSReload(t *testing.T) {
	dir := t.TempDir()
	files := TLSFiles{Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem"),
		ClientCA: filepath.Join(dir, "ca.pem"), ClientAuth: "require", Rules: []string{"RULE:^CN=(.*?),.*$/$1/L", "DEFAULT"}}
	ca, clients, others := newAuthority(t, "ca"), newAuthority(t, "clients"), newAuthority(t, "others")
	put := func(cert, key string) {
		replaceFile(t, files.Cert, cert)
		replaceFile(t, files.Key, key)
	}
	put(ca.pair(t, pkix.Name{CommonName: "first"}))
	replaceFile(t, files.ClientCA, pemOf("CERTIFICATE", clients.cert.Raw))
	s, err := OpenTLS(files, quiet())
	must(t, err)
	config := func(a *authority) *tls.Config {
		cert, err := tls.X509KeyPair(bytesOf(a.pair(t, pkix.Name{CommonName: "Till-7", Organization: []string{"Shop"}})))
		must(t, err)
		return &tls.Config{RootCAs: ca.pool(), ServerName: "broker", Certificates: []tls.Certificate{cert}}
	}
	try := func(a *authority) (string, error) {
		t.Helper()
		client, _, err := shake(t, s, config(a))
		if err != nil {
			return "", err
		}
		return client.ConnectionState().PeerCertificates[0].Subject.CommonName, nil
	}
	want := func(name string) {
		t.Helper()
		if got, err := try(clients); got != name || err != nil {
			t.Errorf("certificate: got %q, %v, want %q", got, err, name)
		}
	}
	oldClient, oldServer, err := shake(t, s, config(clients))
	must(t, err)
	if p, err := s.Principal(oldServer.ConnectionState().PeerCertificates[0]); p != "User:till-7" || err != nil {
		t.Errorf("principal: got %q, %v", p, err)
	}
	if _, err := try(others); err == nil {
		t.Error("a client of another authority was let in")
	}
	if _, _, err := shake(t, s, &tls.Config{RootCAs: ca.pool(), ServerName: "broker"}); err == nil {
		t.Error("a client without a certificate was let in")
	}
	old := config(clients)
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	if _, _, err := shake(t, s, old); err == nil {
		t.Error("TLS 1.1 was spoken")
	}
	want("first")
	cert, key := ca.pair(t, pkix.Name{CommonName: "second"})
	replaceFile(t, files.Cert, cert) // the key is still the old one
	want("first")
	replaceFile(t, files.Key, key)
	want("second")
	replaceFile(t, files.Cert, "broken")
	want("second")
	go oldServer.Write([]byte("still here"))
	buf := make([]byte, 10)
	if _, err := oldClient.Read(buf); err != nil || string(buf) != "still here" {
		t.Errorf("connection of before: got %q, %v", buf, err)
	}
	replaceFile(t, files.Cert, cert)
	replaceFile(t, files.ClientCA, pemOf("CERTIFICATE", others.cert.Raw))
	if _, err := try(others); err != nil {
		t.Errorf("client of the new authority: %v", err)
	}
	if _, err := try(clients); err == nil {
		t.Error("a client of the old authority was let in")
	}
}

func bytesOf(cert, key string) ([]byte, []byte) { return []byte(cert), []byte(key) }

func TestTLSFiles(t *testing.T) {
	for name, f := range map[string]TLSFiles{
		"word":      {ClientAuth: "maybe"},
		"authority": {ClientAuth: "require"},
		"rule":      {Rules: []string{"RULE:x"}},
		"absent":    {Cert: "/nowhere", Key: "/nowhere"},
	} {
		if _, err := OpenTLS(f, quiet()); err == nil {
			t.Errorf("%s: no complaint", name)
		}
	}
}

// TestPrincipal has examples of KIP-371 and of Kafka's documentation.
func TestPrincipal(t *testing.T) {
	duke := pkix.RDNSequence{{{Type: asn1.ObjectIdentifier{2, 5, 4, 6}, Value: "US"}},
		{{Type: asn1.ObjectIdentifier{2, 5, 4, 10}, Value: "Sun, Inc"}}, {{Type: asn1.ObjectIdentifier{2, 5, 4, 11}, Value: "SP"}},
		{{Type: asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 1}, Value: "duke1"}}, {{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: "Duke"}}}
	raw, err := asn1.Marshal(duke)
	must(t, err)
	cert := &x509.Certificate{RawSubject: raw}
	full := `CN=Duke,UID=duke1,OU=SP,O=Sun\, Inc,C=US`
	for _, tt := range []struct {
		rules []string
		want  string
	}{
		{nil, full},
		{[]string{"DEFAULT"}, full},
		{[]string{`RULE:^CN=(.*?),.*$/$1/`}, "Duke"},
		{[]string{`RULE:^CN=(.*?),.*$/$1/L`}, "duke"},
		{[]string{`RULE:CN=(.*?),UID=(.*?),OU=(.*?),.*/$1@$3-$2x/U`}, "DUKE@SP-DUKE1X"},
		{[]string{`RULE:CN=Duk/x/`, "DEFAULT"}, full}, // all must match
		{[]string{`RULE:CN=other.*/x/`, `RULE:.*,C=(..)$/country\/$1/L`}, "country/us"},
		{[]string{`RULE:CN=other.*/x/`}, ""},
	} {
		rules, err := parseRules(tt.rules)
		must(t, err)
		got, err := (&TLS{rules: rules}).Principal(cert)
		want := ""
		if tt.want != "" {
			want = UserPrefix + tt.want
		}
		if got != want || (err != nil) != (want == "") {
			t.Errorf("%v: got %q, %v, want %q", tt.rules, got, err, want)
		}
	}
	for _, bad := range []string{"", "default", "RULE:a/b", "RULE:a/b/X", "RULE:(/b/", fmt.Sprint("RULE:", "a//b/c/")} {
		if err := CheckRule(bad); err == nil {
			t.Errorf("rule %q: no complaint", bad)
		}
	}
}
