package main

import (
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// TestPublicAuthorities: every authority of the bundle can be read, and it may
// be asked for twice.
func TestPublicAuthorities(t *testing.T) {
	n := 0
	for root := range bundle.Roots() {
		n++
		if _, err := x509.ParseCertificate(root.Certificate); err != nil {
			t.Errorf("authority %d: %v", n, err)
		}
	}
	if n < 50 {
		t.Errorf("%d authorities, want those of a browser", n)
	}
	trustPublicAuthorities()
	trustPublicAuthorities()
}

// TestPrivateAuthority: a server that no public authority knows is trusted with
// the file, and not without; a file without a certificate is told.
func TestPrivateAuthority(t *testing.T) {
	server := httptest.NewTLSServer(http.NotFoundHandler())
	defer server.Close()
	file := filepath.Join(t.TempDir(), "ca.pem")
	get := func() error {
		c, err := trusting(file)
		if err != nil {
			t.Fatal(err)
		}
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: c}}
		resp, err := client.Get(server.URL)
		if err == nil {
			resp.Body.Close()
		}
		return err
	}
	if get() == nil {
		t.Error("trusted without the file")
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := get(); err != nil {
		t.Errorf("not trusted with the file: %v", err)
	}
	if err := os.WriteFile(file, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := trusting(file); err == nil {
		t.Error("a file without a certificate is no error")
	}
}
