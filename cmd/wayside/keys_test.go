package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/waysideos/wayside/image/keys"
)

var keysTime = time.Unix(1_780_000_000, 0)

// typist answers prompts with words, one each.
func typist(words ...string) func() ([]byte, error) {
	return func() ([]byte, error) {
		if len(words) == 0 {
			return nil, errors.New("asked too often")
		}
		word := words[0]
		words = words[1:]
		return []byte(word), nil
	}
}

// Each root key has its own passphrase, the others share one.
func TestPrompt(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	ask := func(encrypt bool, words ...string) *prompt {
		return &prompt{encrypt: encrypt, typed: map[string][]byte{}, read: typist(words...), out: io.Discard}
	}
	p := ask(true, "shared", "shared", "ann", "ann", "bob", "bob")
	if _, err := keys.Init(dir, keys.Options{RootKeys: 2, RootThreshold: 2}, p.passphrase, keysTime); err != nil {
		t.Fatal(err)
	}
	open := func(p *prompt) *keys.Folder {
		t.Helper()
		f, err := keys.Open(dir, p.passphrase)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	if _, err := open(ask(false, "ann", "bob")).Renew(keysTime); err != nil {
		t.Errorf("with both passphrases: %v", err)
	}
	if _, err := open(ask(false, "ann", "ann")).Renew(keysTime); err == nil {
		t.Error("one person's passphrase opened both root keys")
	}
	if _, err := open(ask(false, "shared")).Pair("db"); err != nil {
		t.Errorf("db: %v", err)
	}
	for name, p := range map[string]*prompt{
		"typed differently": ask(true, "a", "b"), "empty": ask(true, "", ""), "nobody": ask(true),
	} {
		if _, err := p.passphrase("targets-1", true); err == nil || !strings.Contains(err.Error(), passphraseEnv) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestKeysCommands(t *testing.T) {
	dir, secret := filepath.Join(t.TempDir(), "keys"), filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("open sesame\r\nnot this\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) string {
		t.Helper()
		out, err := wayside(t, append([]string{"keys"}, args...)...)
		if err != nil {
			t.Fatalf("keys %q: %v", args, err)
		}
		return out
	}
	with := []string{"--keys", dir, "--passphrase-file", secret}
	run(append([]string{"init", "--root-keys", "3", "--root-threshold", "2", "--name", "Acme"}, with...)...)
	run(append([]string{"init", "--root-keys", "3", "--root-threshold", "2"}, with...)...) // again: they are as asked
	text := run("list", "--keys", dir)                                                     // needs no passphrase
	for _, want := range []string{"root-3", "encrypted file", "update root 1: 2 root keys sign"} {
		if !strings.Contains(text, want) {
			t.Errorf("list does not say %q:\n%s", want, text)
		}
	}
	run("init", "--keys", dir+"1")
	if text := run("list", "--keys", dir+"1"); !strings.Contains(text, "update root 1: 1 root key signs") {
		t.Errorf("list of a set with one root key:\n%s", text)
	}
	run(append([]string{"rotate", "snapshot"}, with...)...)
	run(append([]string{"renew"}, with...)...)
	text = run("show", "snapshot", "--keys", dir, "--json")
	for _, want := range []string{`"name":"snapshot-2"`, `"root_version":3`, `"kept":"encrypted file"`} {
		if !strings.Contains(text, want) {
			t.Errorf("show does not say %s:\n%s", want, text)
		}
	}
	key, err := os.ReadFile(filepath.Join(dir, "db.key"))
	if err != nil || !bytes.Contains(key, []byte("ENCRYPTED")) {
		t.Errorf("db.key is not encrypted (%v)", err)
	}
	for _, bad := range [][]string{
		{"keys", "rotate", "db"}, // and --keys of nothing
		{"keys", "show", "nobody", "--keys", dir},
		{"keys", "rotate", "targets", "--keys", dir, "--passphrase-file", filepath.Join(dir, "gone")},
		{"keys", "init", "--keys", dir + "2", "--root-keys", "2", "--root-threshold", "3"},
		{"keys", "init", "--keys", dir, "--root-keys", "5", "--root-threshold", "2"}, // it has 3
	} {
		if bad[len(bad)-1] == "db" {
			bad = append(bad, "--keys", t.TempDir())
		}
		if _, err := wayside(t, bad...); err == nil {
			t.Errorf("%q: accepted", bad)
		}
	}
}
