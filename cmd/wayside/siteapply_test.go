package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waysideos/wayside/services/manifest"
	"github.com/waysideos/wayside/services/site"
)

// page is a status page whose box gives a profile a trial of two looks.
type page struct {
	outcome string // ProfileKept or ProfileBack
	drop    bool   // the answer to a profile gets lost
	away    int    // how often then nobody answers
	restart bool   // the box is restarted during the trial

	change *manifest.ProfileChange
	looks  int
}

func (p *page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/site" {
		http.NotFound(w, r)
		return
	}
	if r.Method == http.MethodPost {
		if r.Header.Get("Authorization") != "Bearer 0123456789abcdef" {
			http.Error(w, "wrong token", http.StatusUnauthorized)
			return
		}
		text, _ := io.ReadAll(r.Body)
		if _, err := site.Parse(r.URL.Query().Get("file"), text); err != nil && r.URL.Query().Get("back") == "" {
			w.WriteHeader(http.StatusUnprocessableEntity)
			_ = json.NewEncoder(w).Encode(err)
			return
		}
		sum := sha256.Sum256(text)
		p.change = &manifest.ProfileChange{Digest: hex.EncodeToString(sum[:]), Site: "shop", State: manifest.ProfileTrial, Remaining: 60, Services: []string{"replicator"}, NextStart: []string{"hardware"}}
		if p.drop {
			panic(http.ErrAbortHandler)
		}
	} else if p.change != nil {
		if p.away--; p.away >= 0 {
			panic(http.ErrAbortHandler)
		}
		if p.looks++; p.looks >= 2 {
			p.change.State, p.change.Reason = p.outcome, "x"
		}
		if p.restart {
			p.change = nil
		}
	}
	_ = json.NewEncoder(w).Encode(manifest.Profile{Site: "shop", Source: "applied", Change: p.change})
}

func TestSiteApply(t *testing.T) {
	dir := t.TempDir()
	good, bad, token := filepath.Join(dir, "good.yaml"), filepath.Join(dir, "bad.yaml"), filepath.Join(dir, "api.token")
	writeSite(t, good, "version: 1\nsite: shop\n")
	writeSite(t, bad, "version: 1\nsite: shop\nbrokr: {}\n")
	if err := os.WriteFile(token, []byte("0123456789abcdef\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	line := bad + `:3:1: brokr: unknown field (did you mean "broker"?)` + "\n"
	for _, tt := range []struct {
		name        string
		page        page
		args        []string
		fails       string // "" is well, "1" a status that all was said of
		stdout, err string
	}{
		{"kept", page{outcome: manifest.ProfileKept}, []string{"apply", good}, "", "change     kept", "on trial: site shop; started anew: replicator; only from the next start on: hardware"},
		{"kept, as JSON", page{outcome: manifest.ProfileKept}, []string{"apply", good, "--json"}, "", `"state": "kept"`, ""},
		{"taken back", page{outcome: manifest.ProfileBack}, []string{"apply", good}, "1", "reason     x", ""},
		{"not waited for", page{outcome: manifest.ProfileBack}, []string{"apply", good, "--no-wait"}, "", "change     trial", ""},
		{"the answer is lost", page{outcome: manifest.ProfileKept, drop: true}, []string{"apply", good}, "", "change     kept", ""},
		{"the answer is lost, and the page away", page{outcome: manifest.ProfileKept, drop: true, away: 1}, []string{"apply", good}, "", "change     kept", ""},
		{"restarted", page{outcome: manifest.ProfileKept, restart: true}, []string{"apply", good}, "restarted meanwhile", "", ""},
		{"bad", page{}, []string{"apply", bad}, "1", "", line},
		{"bad, as JSON", page{}, []string{"apply", bad, "--json"}, "1", `"hint": "broker"`, ""},
		{"back", page{outcome: manifest.ProfileKept}, []string{"back"}, "", "change     kept", ""},
		{"status", page{}, []string{"status"}, "", "site       shop\nprofile    applied\n", ""},
		{"gone", page{}, []string{"apply", filepath.Join(dir, "gone.yaml")}, "no such file", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel() // each waits for seconds
			s := httptest.NewServer(&tt.page)
			defer s.Close()
			var stdout, stderr bytes.Buffer
			cmd := newRootCmd()
			cmd.SetOut(&stdout)
			cmd.SetErr(&stderr)
			cmd.SetArgs(append([]string{"site"}, append(tt.args, "--box", s.URL, "--token-file", token)...))
			err := cmd.ExecuteContext(t.Context())
			var code exitCode
			switch {
			case tt.fails == "" && err != nil,
				tt.fails == "1" && !(errors.As(err, &code) && code == 1),
				len(tt.fails) > 1 && (err == nil || !strings.Contains(err.Error(), tt.fails)):
				t.Errorf("got error %v, want %q", err, tt.fails)
			}
			if !strings.Contains(stdout.String(), tt.stdout) || !strings.Contains(stderr.String(), tt.err) {
				t.Errorf("got stdout %q, stderr %q\nwant %q, %q", &stdout, &stderr, tt.stdout, tt.err)
			}
		})
	}
}
