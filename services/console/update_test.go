package console

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waysideos/wayside/services/manifest"
	"github.com/waysideos/wayside/services/site"
)

const token = "0123456789abcdef0123"

// startUpdater has an updater's API answer beside the services of f, and says
// what it was asked.
func startUpdater(t *testing.T, f fakeBox) (asked func() []string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(f.runDir, updater), 0o755); err != nil {
		t.Fatal(err)
	}
	requests := make(chan string, 100)
	serveUnix(t, filepath.Join(f.runDir, updater, manifest.UpdateSock), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests <- r.Method + " " + r.URL.String() + " " + r.Header.Get("Authorization")
		if strings.HasPrefix(r.URL.Path, "/activate") {
			http.Error(w, "no release is prepared", http.StatusConflict)
			return
		}
		_, _ = io.WriteString(w, `{"running":"0.1.0"}`)
	}))
	return func() (all []string) {
		for len(requests) > 0 {
			all = append(all, <-requests)
		}
		return all
	}
}

func post(t *testing.T, url, bearer string) (int, string) {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if bearer != "" {
		req.Header.Set("Authorization", "Bearer "+bearer)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// TestVerbs: only who has the token makes the box act, and the updater's own
// words come back.
func TestVerbs(t *testing.T) {
	f := startBox(t, healthyBox(), healthyReports())
	asked := startUpdater(t, f)
	url := startConsoleWith(t, f, token)
	for _, tt := range []struct {
		path, token string
		code        int
		says        string
	}{
		{"/update/refresh", token, 200, `"running":"0.1.0"`},
		{"/update/retry?version=0.2.0", token, 200, `"running"`},
		{"/update/activate", token, 409, "no release is prepared"},
		{"/update/refresh", "", 401, "wrong token"},
		{"/update/refresh", token + "x", 401, "wrong token"},
		{"/update/refresh", token[1:], 401, "wrong token"},
		{"/update/format", token, 404, ""},
		{"/update/repo/timestamp.json", token, 405, ""},
	} {
		if code, body := post(t, url+tt.path, tt.token); code != tt.code || !strings.Contains(body, tt.says) {
			t.Errorf("POST %s: got %d %q, want %d %q", tt.path, code, body, tt.code, tt.says)
		}
	}
	want := []string{"POST /refresh ", "POST /retry?version=0.2.0 ", "POST /activate "}
	if got := asked(); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("the updater was asked %q, want %q", got, want)
	}
	for path, want := range map[string]string{"/update": "GET /update ", "/update/repo/targets/b/2.0/root.raw": "GET /repo/targets/b/2.0/root.raw "} {
		if code, _, _ := get(t, url+path); code != 200 {
			t.Errorf("GET %s: got %d", path, code)
		}
		if got := asked(); len(got) != 1 || got[0] != want {
			t.Errorf("GET %s: the updater was asked %q, want %q", path, got, want)
		}
	}
}

// TestSiteProfile: a profile, which is larger than all else that is asked,
// reaches the updater from who has the token.
func TestSiteProfile(t *testing.T) {
	f := startBox(t, healthyBox(), healthyReports())
	if err := os.MkdirAll(filepath.Join(f.runDir, updater), 0o755); err != nil {
		t.Fatal(err)
	}
	got := make(chan string, 10)
	serveUnix(t, filepath.Join(f.runDir, updater, manifest.UpdateSock), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		got <- fmt.Sprintf("%s %s %d bytes %v", r.Method, r.URL, len(body), err)
		_, _ = io.WriteString(w, `{"site":"shop"}`)
	}))
	url := startConsoleWith(t, f, token)
	for _, tt := range []struct {
		token string
		size  int
		code  int
		got   string
	}{
		{token, site.MaxSize, 200, fmt.Sprintf("POST /site?file=a.yaml %d bytes <nil>", site.MaxSize)},
		{token, site.MaxSize + 2, 502, ""},
		{token + "x", 10, 401, ""},
		{"", 10, 401, ""},
	} {
		req, err := http.NewRequest(http.MethodPost, url+"/site?file=a.yaml", bytes.NewReader(make([]byte, tt.size)))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+tt.token)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != tt.code {
			t.Errorf("%d bytes: got %s, want %d", tt.size, resp.Status, tt.code)
		}
		if tt.got == "" {
			continue
		}
		if g := <-got; g != tt.got {
			t.Errorf("%d bytes: the updater got %q, want %q", tt.size, g, tt.got)
		}
	}
	for len(got) > 0 { // of what was too large, if anything, only a beginning
		if g := <-got; strings.HasSuffix(g, "<nil>") {
			t.Errorf("the updater got %q", g)
		}
	}
	if code, body, _ := get(t, url+"/site"); code != 200 || !strings.Contains(body, "shop") {
		t.Errorf("GET /site: got %d %q", code, body)
	}
}

// TestVerbsAreOffWithoutAToken, and the page works without an updater.
func TestVerbsAreOffWithoutAToken(t *testing.T) {
	f := startBox(t, healthyBox(), healthyReports())
	url := startConsoleWith(t, f, "")
	for _, bearer := range []string{"", "x"} {
		if code, body := post(t, url+"/update/refresh", bearer); code != 403 || !strings.Contains(body, "api.token") {
			t.Errorf("got %d %q, want 403 and what to do", code, body)
		}
	}
	if code, body, _ := get(t, url+"/update"); code != 502 || !strings.Contains(body, "not running") {
		t.Errorf("no updater: got %d %q", code, body)
	}
	if _, page, _ := get(t, url+"/"); strings.Contains(page, "Updates</h2>") {
		t.Error("the page has a section for an updater that is not there")
	}
	if CheckToken("short") == nil || CheckToken("") != nil || CheckToken(token) != nil {
		t.Error("CheckToken: wants none, or one of at least 16 characters")
	}
}
