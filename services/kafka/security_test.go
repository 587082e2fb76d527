package kafka

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/waysideos/wayside/services/site"
)

// issue writes NAME.pem and NAME.key into dir, signed by NAME itself or by
// an earlier one.
func issue(t *testing.T, dir, name string, by *tls.Certificate) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: by == nil, BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	parent, signer := c, any(key)
	if by != nil {
		parent, signer = by.Leaf, by.PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, name+".pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	write(t, dir, name+".key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})))
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key"))
	if err != nil {
		t.Fatal(err)
	}
	return &pair
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// ping makes a client and has it ask the cluster something.
func ping(t *testing.T, addrs []string, s Security) error {
	t.Helper()
	cl, err := NewClient(Config{Bootstrap: addrs, ClientID: "t", Security: s})
	if err != nil {
		return err
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	return cl.Ping(ctx)
}

func TestMutualTLSAndRotation(t *testing.T) {
	dir := t.TempDir()
	ca := issue(t, dir, "ca", nil)
	server := issue(t, dir, "server", ca)
	issue(t, dir, "box", ca)
	pool := x509.NewCertPool()
	pool.AddCert(ca.Leaf)
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.TLS(&tls.Config{
		Certificates: []tls.Certificate{*server}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert,
	}))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	with := func(s site.ClientTLS) Security { return Security{TLS: &s, Secrets: dir} }
	if err := ping(t, c.ListenAddrs(), with(site.ClientTLS{CA: "ca.pem", Cert: "box.pem", Key: "box.key"})); err != nil {
		t.Errorf("with the right certificates: %v", err)
	}
	for name, s := range map[string]site.ClientTLS{
		"no certificate": {CA: "ca.pem"},
		"other name":     {CA: "ca.pem", Cert: "box.pem", Key: "box.key", ServerName: "other"},
		"no authority":   {Cert: "box.pem", Key: "box.key"},
		"no such file":   {CA: "gone.pem"},
		"no PEM":         {CA: "ca.key"},
	} {
		if err := ping(t, c.ListenAddrs(), with(s)); err == nil {
			t.Errorf("%s: the cluster answers", name)
		}
	}
	// The files change: the next connection has the new ones.
	issue(t, dir, "box", issue(t, dir, "stranger", nil))
	if err := ping(t, c.ListenAddrs(), with(site.ClientTLS{CA: "ca.pem", Cert: "box.pem", Key: "box.key"})); err == nil {
		t.Error("a certificate of a strange authority was taken")
	}
	issue(t, dir, "box", ca)
	if err := ping(t, c.ListenAddrs(), with(site.ClientTLS{CA: "ca.pem", Cert: "box.pem", Key: "box.key"})); err != nil {
		t.Errorf("after a rotation: %v", err)
	}
}

func TestLoginAndRotation(t *testing.T) {
	dir := t.TempDir()
	for _, mechanism := range []string{"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"} {
		c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.EnableSASL(), kfake.Superuser(mechanism, "box", "right"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		s := Security{SASL: &site.ClientSASL{Mechanism: mechanism, User: "box", Password: "password"}, Secrets: dir}
		write(t, dir, "password", "wrong\n")
		if err := ping(t, c.ListenAddrs(), s); err == nil {
			t.Errorf("%s: a wrong password was taken", mechanism)
		}
		write(t, dir, "password", "right\r\n")
		if err := ping(t, c.ListenAddrs(), s); err != nil {
			t.Errorf("%s: %v", mechanism, err)
		}
	}
	if err := ping(t, []string{"127.0.0.1:1"}, Security{SASL: &site.ClientSASL{Mechanism: "GSSAPI"}}); err == nil || !strings.Contains(err.Error(), "unknown") {
		t.Errorf("unknown mechanism: %v", err)
	}
}

func TestTokens(t *testing.T) {
	dir := t.TempDir()
	issuer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, secret, _ := r.BasicAuth()
		if id != "box" || secret != "right" || r.FormValue("grant_type") != "client_credentials" || r.FormValue("scope") != "kafka" {
			w.WriteHeader(http.StatusUnauthorized)
			w.Write([]byte(`{"error":"invalid_client"}`))
			return
		}
		w.Write([]byte(`{"access_token":"a.b.c","expires_in":60}`))
	}))
	defer issuer.Close()
	write(t, dir, "token", "x.y.z\n")
	fromFile := Security{SASL: &site.ClientSASL{Token: "token"}, Secrets: dir}
	if got, err := fromFile.token(t.Context()); got != "x.y.z" || err != nil {
		t.Errorf("token of a file = %q, %v", got, err)
	}
	asked := Security{SASL: &site.ClientSASL{OAuth: &site.ClientOAuth{TokenURL: issuer.URL, ClientID: "box", ClientSecret: "secret", Scope: "kafka"}}, Secrets: dir}
	write(t, dir, "secret", "wrong")
	if _, err := asked.token(t.Context()); err == nil || !strings.Contains(err.Error(), "invalid_client") {
		t.Errorf("with a wrong secret: %v, want the issuer's word", err)
	}
	write(t, dir, "secret", "right")
	if got, err := asked.token(t.Context()); got != "a.b.c" || err != nil {
		t.Errorf("token of the issuer = %q, %v", got, err)
	}
	write(t, dir, "secret", "\n")
	if _, err := asked.token(t.Context()); err == nil {
		t.Error("an empty secret was used")
	}
}
