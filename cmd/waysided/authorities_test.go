package main

import (
	"crypto/x509"
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
