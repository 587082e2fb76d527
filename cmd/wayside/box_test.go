package main

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// TestBoxUpdate runs the commands against a status page.
func TestBoxUpdate(t *testing.T) {
	const token = "0123456789abcdef"
	var asked atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodPost && r.Header.Get("Authorization") != "Bearer "+token:
			http.Error(w, "wrong token", http.StatusUnauthorized)
		case r.URL.Path == "/update/prepare":
			_, _ = io.WriteString(w, `{"phase":"preparing","step":"downloading","done_bytes":1000000,"total_bytes":5000000}`)
		case r.URL.Path == "/update/activate":
			http.Error(w, "no release is prepared", http.StatusConflict)
		case r.URL.Path == "/update" && asked.Add(1) == 1:
			_, _ = io.WriteString(w, `{"phase":"prepared","running":"1.0","counter":7,"prepared":{"version":"2.0","bytes":5000000}}`)
		default:
			_, _ = io.WriteString(w, `{"phase":"idle","running":"1.0","last":{"version":"2.0","check":"canary","reason":"no answer"},"problem":"`+r.URL.RawQuery+`"}`)
		}
	}))
	defer s.Close()
	file := filepath.Join(t.TempDir(), "api.token")
	if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args  []string
		says  string
		fails string
	}{
		{[]string{"prepare", "--token-file", file}, "prepared   2.0 (counter 0), at most 5.0 MB", ""},
		{[]string{"status"}, "last       2.0 FAILED: canary: no answer", ""},
		{[]string{"status", "--json"}, `"phase": "idle"`, ""},
		{[]string{"retry", "2.0", "--token-file", file}, "version=2.0", ""},
		{[]string{"reboot", "--token-file", file}, "the box restarts", ""},
		{[]string{"activate", "--token-file", file}, "", "the box refuses: no release is prepared"},
		{[]string{"refresh"}, "", "--token-file"},
		{[]string{"refresh", "--token-file", os.DevNull}, "", "--token-file"},
	} {
		out, err := box(t, append(tt.args, "--box", s.URL)...)
		if tt.fails == "" && (err != nil || !strings.Contains(out, tt.says)) || tt.fails != "" && (err == nil || !strings.Contains(err.Error(), tt.fails)) {
			t.Errorf("%v: got %q, %v; want %q, %q", tt.args, out, err, tt.says, tt.fails)
		}
	}
	for _, bad := range []string{"", "ftp://x", "http://"} {
		if _, err := box(t, "status", "--box", bad); err == nil || !strings.Contains(err.Error(), "--box") {
			t.Errorf("--box %q: got %v", bad, err)
		}
	}
}

// TestBoxToken: it is said when the token can be read on its way, and it goes
// nowhere but to who was named.
func TestBoxToken(t *testing.T) {
	file := filepath.Join(t.TempDir(), "api.token")
	if err := os.WriteFile(file, []byte("0123456789abcdef"), 0o600); err != nil {
		t.Fatal(err)
	}
	for address, warns := range map[string]bool{
		"192.0.2.10": true, "http://box.example.com:8080": true, "https://box.example.com": false,
		"localhost": false, "http://127.0.0.1:8080": false, "http://[::1]:8080": false,
	} {
		var said bytes.Buffer
		for _, needed := range []bool{false, true} {
			f := boxFlags{box: address, tokenFile: file, warn: func() io.Writer { return &said }}
			if _, err := f.open(needed); err != nil {
				t.Fatal(err)
			}
			if got := strings.Contains(said.String(), "unencrypted"); got != (warns && needed) {
				t.Errorf("%s, token needed %v: says %q", address, needed, &said)
			}
		}
	}
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a redirect was followed") }))
	defer other.Close()
	for _, code := range []int{http.StatusFound, http.StatusTemporaryRedirect} {
		s := httptest.NewServer(http.RedirectHandler(other.URL+"/update/refresh", code))
		if _, err := box(t, "refresh", "--box", s.URL, "--token-file", file); err == nil || !strings.Contains(err.Error(), other.URL) {
			t.Errorf("%d: got %v, want it said where the box sends to", code, err)
		}
		s.Close()
	}
}

func box(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	cmd := newRootCmd()
	cmd.SetOut(&out)
	cmd.SetErr(io.Discard)
	cmd.SetArgs(append([]string{"box", "update"}, args...))
	err := cmd.ExecuteContext(t.Context())
	return out.String(), err
}
