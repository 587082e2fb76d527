package syslog

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/waysideos/wayside/services/connect/connecttest"
)

// certificate writes cert.pem and key.pem of this machine into dir.
func certificate(t testing.TB, dir string) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	for name, data := range map[string][]byte{"cert.pem": cert, "key.pem": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(cert)
	return pool
}

// TestTLS: messages come over TLS; who cannot show a certificate that is
// asked for is heard of, and what it sends is not.
func TestTLS(t *testing.T) {
	b, at, dir := connecttest.NewBroker(t), connecttest.FreeAddress(t), t.TempDir()
	pool := certificate(t, dir)
	cert, err := tls.LoadX509KeyPair(filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	run(t, b, fmt.Sprintf("transport: tls, listen: %s, tls: {cert: %s/cert.pem, key: %s/key.pem, client_ca: %s/cert.pem}", at, dir, dir, dir))
	stranger, err := tls.Dial("tcp", at, &tls.Config{RootCAs: pool})
	if err == nil { // TLS 1.3: it hears of it when it reads
		fmt.Fprint(stranger, "<13>not from me\n")
		if _, err := stranger.Read(make([]byte, 1)); err == nil {
			t.Error("a sender without a certificate was taken")
		}
		stranger.Close()
	}
	conn, err := tls.Dial("tcp", at, &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{cert}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "<13>over TLS\n")
	if r := b.Read("logs", 1)[0]; !strings.Contains(string(r.Value), `"message":"over TLS"`) {
		t.Errorf("got %s", r.Value)
	}
}
