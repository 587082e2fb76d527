package keys_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waysideos/wayside/image/imagetest"
	"github.com/waysideos/wayside/image/keys"
)

var now = time.Unix(1_780_000_000, 0)

// secret is a Passphrase for every key.
func secret(word string) keys.Passphrase {
	return func(string, bool) ([]byte, error) { return []byte(word), nil }
}

func initKeys(t *testing.T, dir string, o keys.Options, pass keys.Passphrase) *keys.Folder {
	t.Helper()
	if _, err := keys.Init(dir, o, pass, now); err != nil {
		t.Fatal(err)
	}
	return open(t, dir, pass)
}

func open(t *testing.T, dir string, pass keys.Passphrase) *keys.Folder {
	t.Helper()
	f, err := keys.Open(dir, pass)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func list(t *testing.T, f *keys.Folder) (current, retired []string) {
	t.Helper()
	l, err := f.List()
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range l.Keys {
		if k.Current {
			current = append(current, k.Name)
		} else {
			retired = append(retired, k.Name)
		}
	}
	return current, retired
}

func TestReleaseKeysAreEncrypted(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	f := initKeys(t, dir, keys.Options{RootKeys: 3, RootThreshold: 2, Name: "Acme"}, secret("open sesame"))
	files, err := filepath.Glob(filepath.Join(dir, "*.key"))
	if err != nil || len(files) != 9 {
		t.Fatalf("got private keys %q, %v; want 3 for firmware, 3 of root, 3 of the other roles", files, err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil || !bytes.HasPrefix(data, []byte("-----BEGIN ENCRYPTED PRIVATE KEY")) {
			t.Errorf("%s is not encrypted (%v)", file, err)
		}
		// The format is everybody's: a key must not be locked into our tool.
		imagetest.Run(t, "openssl", "pkey", "-in", file, "-passin", "pass:open sesame", "-noout")
	}
	p, err := f.Pair("KEK")
	if err != nil || p.Cert.Subject.CommonName != "Acme KEK" {
		t.Errorf("KEK: got %v, %v", p.Cert, err)
	}
	if _, err := open(t, dir, secret("wrong")).Pair("db"); err == nil || !strings.Contains(err.Error(), "passphrase") {
		t.Errorf("wrong passphrase: got %v", err)
	}
	if _, err := open(t, dir, nil).Pair("db"); err == nil || !strings.Contains(err.Error(), "encrypted") {
		t.Errorf("no passphrase: got %v", err)
	}
}

func TestInitCompletesAndKeeps(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	initKeys(t, dir, keys.Options{}, nil)
	db, err := os.ReadFile(filepath.Join(dir, "db.key"))
	if err != nil {
		t.Fatal(err)
	}
	for _, lost := range []string{"PK.key", "PK.crt", "snapshot-1.pub", "roots/1.root.json"} {
		if err := os.Remove(filepath.Join(dir, lost)); err != nil {
			t.Fatal(err)
		}
	}
	f := initKeys(t, dir, keys.Options{}, nil)
	current, retired := list(t, f)
	want := []string{"PK", "KEK", "db", "root-1", "targets-1", "snapshot-1", "timestamp-1"}
	if diff := cmp.Diff(want, current); diff != "" || retired != nil {
		t.Errorf("keys (-want +got):\n%s\nretired %q", diff, retired)
	}
	if again, err := os.ReadFile(filepath.Join(dir, "db.key")); err != nil || !bytes.Equal(again, db) {
		t.Errorf("db was made anew (%v)", err)
	}
	if made, err := keys.Init(dir, keys.Options{}, nil, now); err != nil || made != nil {
		t.Errorf("a whole folder: got %q made, %v", made, err)
	}
}

func TestConfigIsChecked(t *testing.T) {
	for name, text := range map[string]string{
		"no format":      "files: {}\n",
		"later format":   "format: 2\n",
		"unknown field":  "format: 1\nsigner: {}\n",
		"unknown role":   "format: 1\nexpires_days: {db: 3}\n",
		"no days":        "format: 1\nexpires_days: {root: 0}\n",
		"empty signer":   "format: 1\nsigners: {db: []}\n",
		"two places":     "format: 1\nsigners: {db: [a]}\nfiles: {db: b}\n",
		"timeout":        "format: 1\nsigner_timeout: -3s\n",
		"not yaml":       "{",
		"not a duration": "format: 1\nsigner_timeout: soon\n",
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, keys.ConfigFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := keys.Open(dir, nil); err == nil || !strings.Contains(err.Error(), keys.ConfigFile) {
			t.Errorf("%s: got %v, want an error that names the file", name, err)
		}
	}
}

// Root keys lie on sticks; two of three people come to a ceremony.
func TestRootThreshold(t *testing.T) {
	dir, sticks := t.TempDir(), t.TempDir()
	conf := "format: 1\nexpires_days: {root: 100}\nfiles:\n"
	for _, name := range []string{"root-1", "root-2", "root-3"} {
		conf += "  " + name + ": " + filepath.Join(sticks, name) + "\n"
	}
	if err := os.WriteFile(filepath.Join(dir, keys.ConfigFile), []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	f := initKeys(t, dir, keys.Options{RootKeys: 3, RootThreshold: 2}, nil)
	hide := func(names ...string) func() {
		for _, name := range names {
			if err := os.Rename(filepath.Join(sticks, name), filepath.Join(sticks, name+".away")); err != nil {
				t.Fatal(err)
			}
		}
		return func() {
			for _, name := range names {
				if err := os.Rename(filepath.Join(sticks, name+".away"), filepath.Join(sticks, name)); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	back := hide("root-1", "root-3")
	f = open(t, dir, nil)
	if _, err := f.Renew(now); err == nil || !strings.Contains(err.Error(), "wants 2 signatures, got 1") || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("one of three keys: got %v", err)
	}
	if _, err := f.Rotate("targets", "", now); err == nil {
		t.Error("one of three root keys rotated a key")
	}
	if roots, err := f.Roots(); err != nil || len(roots) != 1 {
		t.Fatalf("got %d roots, %v; want the first alone", len(roots), err)
	}
	back()
	hide("root-2")
	f = open(t, dir, nil)
	if v, err := f.Renew(now); err != nil || v != 2 {
		t.Fatalf("two of three keys: got root %d, %v", v, err)
	}
	roots, err := f.Roots()
	if err != nil || len(roots) != 2 || !roots[1].Signed.Expires.Equal(now.AddDate(0, 0, 100)) {
		t.Errorf("got %d roots, %v, want a second that expires in 100 days", len(roots), err)
	}
}

func TestRotate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	f := initKeys(t, dir, keys.Options{RootKeys: 3, RootThreshold: 2}, nil)
	old, err := f.Pair("db")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ role, which, retired, fresh string }{
		{"root", "", "root-1", "root-4"},
		{"root", "root-3", "root-3", "root-5"},
		{"targets", "", "targets-1", "targets-2"},
		{"targets", "", "targets-2", "targets-3"},
		{"snapshot", "", "snapshot-1", "snapshot-2"},
		{"timestamp", "", "timestamp-1", "timestamp-2"},
		{"db", "", "db-1", "db"},
		{"db", "", "db-2", "db"},
		{"KEK", "", "KEK-1", "KEK"},
		{"PK", "", "PK-1", "PK"},
	} {
		got, err := f.Rotate(c.role, c.which, now)
		if err != nil || got.Retired != c.retired || got.New != c.fresh {
			t.Fatalf("rotate %s %s: got %+v, %v; want %s for %s", c.role, c.which, got, err, c.fresh, c.retired)
		}
	}
	for _, role := range []string{"pcr", "root-1", ""} {
		if _, err := f.Rotate(role, "", now); err == nil {
			t.Errorf("role %q was rotated", role)
		}
	}
	if _, err := f.Rotate("targets", "targets-1", now); err == nil {
		t.Error("a retired key was rotated")
	}
	f = open(t, dir, nil)
	current, retired := list(t, f)
	if diff := cmp.Diff([]string{"PK", "KEK", "db", "root-2", "root-4", "root-5", "targets-3", "snapshot-2", "timestamp-2"}, current); diff != "" {
		t.Errorf("current keys (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"PK-1", "KEK-1", "db-1", "db-2", "root-1", "root-3", "targets-1", "targets-2", "snapshot-1", "timestamp-1"}, retired); diff != "" {
		t.Errorf("retired keys (-want +got):\n%s", diff)
	}
	certs, err := f.Certs("db")
	if err != nil || len(certs) != 3 || !certs[1].Equal(old.Cert) {
		t.Errorf("certificates of db: got %d, %v; want the first one second", len(certs), err)
	}
	if p, err := f.Pair("db-1"); err != nil || p.Fingerprint() != old.Fingerprint() {
		t.Errorf("the first db pair: got %v", err)
	}
	lost := filepath.Join(dir, keys.RootsDir, "3.root.json")
	if err := os.Remove(lost); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Roots(); err == nil {
		t.Error("a root that boxes need on their way is lost and nobody says so")
	}
}

// A rotation that nobody could sign leaves no key behind.
func TestRotationThatFailsLeavesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	before, _ := list(t, initKeys(t, dir, keys.Options{}, secret("right")))
	if _, err := open(t, dir, secret("wrong")).Rotate("targets", "", now); err == nil {
		t.Fatal("signed without the passphrase of the root key")
	}
	f := open(t, dir, secret("right"))
	current, retired := list(t, f)
	if diff := cmp.Diff(before, current); diff != "" || len(retired) > 0 {
		t.Errorf("keys (-want +got):\n%s; retired: %v", diff, retired)
	}
	if r, err := f.Rotate("targets", "", now); err != nil || r.New != "targets-2" {
		t.Errorf("again: got %+v, %v", r, err)
	}
}

// A root that somebody altered, or put there, is not shipped.
func TestRootsAreChecked(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	f := initKeys(t, dir, keys.Options{}, nil)
	file := filepath.Join(dir, keys.RootsDir, "1.root.json")
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(t.TempDir(), "other")
	initKeys(t, other, keys.Options{}, nil)
	foreign, err := os.ReadFile(filepath.Join(other, keys.RootsDir, "1.root.json"))
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string][]byte{
		"expiry":        bytes.Replace(data, []byte(`"expires": "20`), []byte(`"expires": "21`), 1),
		"not a version": bytes.Replace(data, []byte(`"version": 1`), []byte(`"version": 2`), 1),
		"cut":           data[:len(data)/2],
		"empty":         nil,
	} {
		if err := os.WriteFile(file, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Roots(); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, keys.RootsDir, "2.root.json"), foreign, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Roots(); err == nil {
		t.Error("another's root was taken for the second")
	}
}
