package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/waysideos/wayside/services/broker"
	"github.com/waysideos/wayside/services/broker/auth"
	"github.com/waysideos/wayside/services/site"
)

const securityPage = "../../docs/security.md"

// block is the one block of code of a kind on the page.
func block(t *testing.T, kind string) string {
	t.Helper()
	text, err := os.ReadFile(securityPage)
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile("(?s)```"+kind+"\n(.*?)```").FindAllStringSubmatch(string(text), -1)
	if len(m) != 1 {
		t.Fatalf("%s: got %d blocks of %s, want 1", securityPage, len(m), kind)
	}
	return m[0][1]
}

// pageSecrets makes the files that the page makes, by its own commands.
func pageSecrets(t *testing.T) string {
	t.Helper()
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("openssl is not installed (apt install openssl)")
	}
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "sh", "-ec", block(t, "sh"))
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("commands of %s: %v\n%s", securityPage, err, out)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k"}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "jwks.json"), set, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestSecurityPage opens the listeners of the page's profile with the files
// of the page's commands; one whose file is missing is a problem of its own.
func TestSecurityPage(t *testing.T) {
	p, err := site.Parse(securityPage, []byte(block(t, "yaml")))
	if err != nil {
		t.Fatal(err)
	}
	dir := pageSecrets(t)
	open := func() (listeners int, problems []string, policy *auth.Policy) {
		cfg := broker.Config{Log: slog.New(slog.DiscardHandler)}
		for i := range p.Broker.Listeners {
			p.Broker.Listeners[i].Listen = "127.0.0.1:0"
		}
		secure(&cfg, p.Broker, dir)
		for _, ln := range cfg.Listeners {
			ln.Close()
		}
		for _, f := range cfg.Problems {
			problems = append(problems, f.Name)
		}
		return len(cfg.Listeners), problems, cfg.Access
	}
	n, problems, policy := open()
	if n != 3 || len(problems) > 0 {
		t.Errorf("%d listeners are open, want 3; problems: %v", n, problems)
	}
	if diff := cmp.Diff(&auth.Policy{SuperUsers: []string{auth.Box, "User:admin"}}, policy); diff != "" {
		t.Errorf("policy (-want +got):\n%s", diff)
	}
	if err := os.Remove(filepath.Join(dir, "users")); err != nil {
		t.Fatal(err)
	}
	n, problems, _ = open()
	if diff := cmp.Diff([]string{"listener staff is not open"}, problems); n != 2 || diff != "" {
		t.Errorf("without a file: %d listeners, problems (-want +got):\n%s", n, diff)
	}
}

// What the profile takes, the broker takes; see topics_test.go.
func TestProfileAndBrokerAgreeOnSecurity(t *testing.T) {
	if diff := cmp.Diff(auth.Mechanisms, site.SASLMechanisms()); diff != "" {
		t.Errorf("mechanisms (-broker +profile):\n%s", diff)
	}
	for _, rule := range []string{"DEFAULT", "default", "RULE:a/b/", "RULE:^CN=(.*?),.*$/$1/L", "RULE:a/b/U", "RULE:a/b/X", "RULE:a/b",
		"RULE:a/b/c/", `RULE:a\/b/c/L`, `RULE:a/b\/c/`, "RULE://", "RULE:", "a/b/", ""} {
		text, err := json.Marshal(rule)
		if err != nil {
			t.Fatal(err)
		}
		profile := `{version: 1, site: a, broker: {listeners: [{name: n, listen: ":1", tls: {cert: c, key: k, principal_rules: [` + string(text) + `]}}]}}`
		_, perr := site.Parse("f", []byte(profile))
		berr := auth.CheckRule(rule)
		if (perr == nil) != (berr == nil) {
			t.Errorf("rule %q: profile says %v, broker says %v", rule, perr, berr)
		}
	}
}
