package status

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/waysideos/wayside/services/manifest"
)

func TestServe(t *testing.T) {
	sock := filepath.Join(t.TempDir(), "init.sock")
	asked := make(chan string, 2)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- Serve(ctx, sock, Config{
			Box:      func() manifest.Box { return manifest.Box{Slot: "root-a"} },
			Reboot:   func(string) { asked <- "reboot" },
			PowerOff: func(string) { asked <- "poweroff" },
			Log:      slog.New(slog.DiscardHandler),
		})
	}()
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		for { // until Serve listens
			c, err := (&net.Dialer{}).DialContext(ctx, "unix", sock)
			if err == nil || ctx.Err() != nil {
				return c, err
			}
		}
	}}, Timeout: 20 * time.Second}
	resp, err := client.Get("http://init/status")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var box manifest.Box
	if err := json.NewDecoder(resp.Body).Decode(&box); err != nil || box.Slot != "root-a" {
		t.Errorf("got %+v, %v, want slot root-a", box, err)
	}
	for _, tc := range []struct {
		method, path string
		code         int
		asked        string
	}{
		{"POST", "/reboot", http.StatusAccepted, "reboot"},
		{"POST", "/poweroff", http.StatusAccepted, "poweroff"},
		{"GET", "/reboot", http.StatusMethodNotAllowed, ""},
		{"GET", "/other", http.StatusNotFound, ""},
	} {
		req, err := http.NewRequestWithContext(ctx, tc.method, "http://init"+tc.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		got := ""
		select {
		case got = <-asked:
		default:
		}
		if resp.StatusCode != tc.code || got != tc.asked {
			t.Errorf("%s %s: got %d, asked for %q, want %d, %q", tc.method, tc.path, resp.StatusCode, got, tc.code, tc.asked)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("got %v when told to end, want nothing", err)
	}
}

// A peer that is not known to be this process's own user may look, not act.
func TestOnlyTheOwnerActs(t *testing.T) {
	h := Handler(Config{
		Box:      func() (b manifest.Box) { return b },
		Reboot:   func(string) { t.Error("rebooted for a stranger") },
		PowerOff: func(string) { t.Error("powered off for a stranger") },
		Slots:    func() (s manifest.Slots) { return s },
		Update:   map[string]func([]byte) error{"fail": func([]byte) error { t.Error("failed for a stranger"); return nil }},
		Updater:  nobody,
		Log:      slog.New(slog.DiscardHandler),
	})
	for path, want := range map[string]int{"POST /reboot": 403, "POST /poweroff": 403, "POST /update/fail": 403, "GET /status": 200, "GET /update": 200} {
		method, path, _ := strings.Cut(path, " ")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(method, path, nil))
		if w.Code != want {
			t.Errorf("%s %s: got %d, want %d", method, path, w.Code, want)
		}
	}
}

type refusal struct{ error }

func (refusal) Refused() bool { return true }

// The updater may ask for what concerns versions, and gets told what to think
// of an error.
func TestUpdaterActs(t *testing.T) {
	const updater = 205
	rebooted := 0
	h := Handler(Config{
		Reboot:   func(string) { rebooted++ },
		PowerOff: func(string) { t.Error("powered off for the updater") },
		Update: map[string]func([]byte) error{
			"commit": func(body []byte) error {
				if string(body) != "{}" {
					t.Errorf("got body %q", body)
				}
				return nil
			},
			"activate": func([]byte) error { return fmt.Errorf("no: %w", refusal{errors.New("failed before")}) },
			"fail":     func([]byte) error { return errors.New("disk gone") },
		},
		Updater: updater, Log: slog.New(slog.DiscardHandler),
	})
	for path, want := range map[string]int{"/reboot": 202, "/poweroff": 403, "/update/commit": 204, "/update/activate": 409, "/update/fail": 500, "/update/none": 404} {
		w := httptest.NewRecorder()
		r := httptest.NewRequest("POST", path, strings.NewReader("{}"))
		h.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), peerKey{}, updater)))
		if w.Code != want {
			t.Errorf("%s: got %d %q, want %d", path, w.Code, w.Body, want)
		}
	}
	if rebooted != 1 {
		t.Errorf("rebooted %d times, want once", rebooted)
	}
}
