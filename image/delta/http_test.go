package delta_test

import (
	"bytes"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/waysideos/wayside/image/delta"
)

func TestFromAWebServer(t *testing.T) {
	old, r := pair(t)
	whole := func(w http.ResponseWriter, _ *http.Request) { w.Write(r.pack) }
	for name, serve := range map[string]http.HandlerFunc{
		"ranges": func(w http.ResponseWriter, req *http.Request) {
			http.ServeContent(w, req, "root.pack", time.Time{}, bytes.NewReader(r.pack))
		},
		"no ranges": whole,
		"another range than asked for": func(w http.ResponseWriter, req *http.Request) {
			if req.Header.Get("Range")[:8] == "bytes=0-" {
				whole(w, req)
				return
			}
			w.Header().Set("Content-Range", "bytes 5-9/100")
			w.WriteHeader(http.StatusPartialContent)
			w.Write(r.pack[5:10])
		},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(serve)
			defer server.Close()
			b := newBox(old)
			b.pack = delta.HTTPPack(server.Client(), server.URL)
			b.mustTake(t, r)
		})
	}
}

// A server that is out of order is not one that serves wrong ranges: a full
// download would not be better.
func TestAServerOutOfOrder(t *testing.T) {
	old, r := pair(t)
	for _, code := range []int{http.StatusServiceUnavailable, http.StatusForbidden, http.StatusNotFound} {
		asked := 0
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			asked++
			w.WriteHeader(code)
		}))
		defer server.Close()
		b := newBox(old)
		b.pack = delta.HTTPPack(server.Client(), server.URL)
		_, err := b.take(t, r)
		var status *delta.StatusError
		if !errors.As(err, &status) || status.Code != code || asked != 1 {
			t.Errorf("%d: asked %d times, got %v", code, asked, err)
		}
	}
}
