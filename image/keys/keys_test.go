package keys_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/waysideos/wayside/image/keys"
)

func TestKeysAreMadeOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "config", "keys")
	if _, err := keys.Load(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Load of no keys: got %v, want fs.ErrNotExist", err)
	}
	first, created, err := keys.LoadOrCreate(dir, nil)
	if err != nil || !created {
		t.Fatalf("got created %v, %v; want keys made", created, err)
	}
	again, created, err := keys.LoadOrCreate(dir, nil)
	if err != nil || created || again.Fingerprint() != first.Fingerprint() {
		t.Errorf("second time: created %v, fingerprint %s, %v; want the first keys, %s", created, again.Fingerprint(), err, first.Fingerprint())
	}
	if !first.Cert.NotBefore.Before(time.Unix(1_600_000_000, 0)) || first.Cert.NotAfter.Year() < 2040 {
		t.Errorf("certificate holds from %s to %s, want wide", first.Cert.NotBefore, first.Cert.NotAfter)
	}
	for name, want := range map[string]fs.FileMode{".": 0o700, keys.KeyFile: 0o600, keys.CertFile: 0o600} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("mode of %s: got %o, want %o", name, got, want)
		}
	}
	left, err := os.ReadDir(filepath.Dir(dir))
	if err != nil || len(left) != 1 {
		t.Errorf("beside the keys lie %v, %v; want nothing", left, err)
	}
}

func TestHalfAPairIsNeverCompleted(t *testing.T) {
	for _, lost := range []string{keys.KeyFile, keys.CertFile} {
		dir := filepath.Join(t.TempDir(), "keys")
		if _, _, err := keys.LoadOrCreate(dir, nil); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(filepath.Join(dir, lost)); err != nil {
			t.Fatal(err)
		}
		if _, _, err := keys.LoadOrCreate(dir, nil); err == nil {
			t.Errorf("without %s: keys were made anew beside the old half", lost)
		}
	}
}

func TestKeyOfAnotherCertificateIsRefused(t *testing.T) {
	a, b := filepath.Join(t.TempDir(), "a"), filepath.Join(t.TempDir(), "b")
	for _, dir := range []string{a, b} {
		if _, _, err := keys.LoadOrCreate(dir, nil); err != nil {
			t.Fatal(err)
		}
	}
	cert, err := os.ReadFile(filepath.Join(b, keys.CertFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(a, keys.CertFile), cert, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := keys.Load(a); err == nil {
		t.Error("a key was loaded with a certificate that is not its own")
	}
}
