package main

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestLinkOfABox runs the commands against a status page.
func TestLinkOfABox(t *testing.T) {
	const token = "0123456789abcdef"
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodPost && r.Header.Get("Authorization") != "Bearer "+token:
			http.Error(w, "wrong token", http.StatusUnauthorized)
		case r.URL.Path == "/links":
			_, _ = io.WriteString(w, `[{"name":"hq","direction":"up","up":true}]`)
		case r.URL.Path == "/links/hq/offsets" && r.FormValue("offset") == "9":
			_, _ = io.WriteString(w, `[{"topic":"t","offset":9,"to":"shop.t","dest":12}]`)
		case r.URL.Path == "/links/hq" || r.URL.Path == "/links/hq/pause":
			_, _ = io.WriteString(w, `{"name":"hq","paused":true,"groups":[{"group":"tills","topic":"t","offset":9,"to":"shop.t","dest":11,"exact":true,"state":"committed"}]}`)
		default:
			http.Error(w, "there is no such link", http.StatusNotFound)
		}
	}))
	defer s.Close()
	file := filepath.Join(t.TempDir(), "api.token")
	if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args        []string
		says, fails string
	}{
		{[]string{"list"}, "hq    up         up", ""},
		{[]string{"show", "hq"}, "paused", ""},
		{[]string{"show", "x"}, "", "there is no such link"},
		{[]string{"pause", "hq", "--token-file", file}, "paused", ""},
		{[]string{"pause", "hq"}, "", "--token-file"},
		{[]string{"offsets", "hq"}, "tills  t      0          9       shop.t  11              committed", ""},
		{[]string{"offsets", "hq", "--json"}, `"state":"committed"`, ""},
		{[]string{"offsets", "hq", "--topic", "t", "--offset", "9"}, "shop.t/0 about 12", ""},
		{[]string{"offsets", "hq", "--topic", "t", "--offset", "9", "--json"}, `"dest":12`, ""},
	} {
		var out bytes.Buffer
		cmd := newRootCmd()
		cmd.SetOut(&out)
		cmd.SetErr(io.Discard)
		cmd.SetArgs(append(append([]string{"link"}, tt.args...), "--box", s.URL))
		err := cmd.ExecuteContext(t.Context())
		if tt.fails == "" && (err != nil || !strings.Contains(out.String(), tt.says)) || tt.fails != "" && (err == nil || !strings.Contains(err.Error(), tt.fails)) {
			t.Errorf("%v: got %q, %v; want %q, %q", tt.args, &out, err, tt.says, tt.fails)
		}
	}
}
