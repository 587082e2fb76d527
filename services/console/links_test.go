package console

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waysideos/wayside/services/manifest"
)

// TestLinkVerbs: everybody sees the links, only who has the token stops one.
func TestLinkVerbs(t *testing.T) {
	f := startBox(t, healthyBox(), nil)
	if err := os.MkdirAll(filepath.Join(f.runDir, replicator), 0o755); err != nil {
		t.Fatal(err)
	}
	serveUnix(t, filepath.Join(f.runDir, replicator, manifest.StatusSock), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Method+" "+r.URL.String()+" "+r.Header.Get("Authorization"))
	}))
	url := startConsoleWith(t, f, token)
	for _, path := range []string{"/links", "/links/hq", "/links/hq/offsets?topic=t&partition=0&offset=1"} {
		if code, body, _ := get(t, url+path); code != 200 || body != "GET "+path+" " {
			t.Errorf("GET %s: got %d %q", path, code, body)
		}
	}
	for _, tt := range []struct {
		path, token string
		code        int
		says        string
	}{
		{"/links/hq/pause", token, 200, "POST /links/hq/pause "},
		{"/links/hq/rewind?topic=t&to=earliest", token, 200, "POST /links/hq/rewind?topic=t&to=earliest "},
		{"/links/hq/pause", token[1:], 401, "wrong token"},
		{"/links/hq/format", token, 404, ""},
		{"/links/hq", token, 405, ""},
	} {
		if code, body := post(t, url+tt.path, tt.token); code != tt.code || !strings.Contains(body, tt.says) {
			t.Errorf("POST %s: got %d %q, want %d %q", tt.path, code, body, tt.code, tt.says)
		}
	}
}
