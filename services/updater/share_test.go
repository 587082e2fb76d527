package updater

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/waysideos/wayside/services/manifest"
)

// run serves the updater's API until the test ends.
func (b *box) run() (url string) {
	b.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.t.Fatal(err)
	}
	b.cfg.API = l
	b.restart()
	ctx, cancel := context.WithCancel(b.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- b.Run(ctx) }()
	<-b.Ready()
	b.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			b.t.Errorf("Run: %v", err)
		}
	})
	return "http://" + l.Addr().String()
}

// TestBoxToBox: a box that holds a release, prepared or running, gives it to
// another, which believes nothing but the signed metadata and the root hash.
func TestBoxToBox(t *testing.T) {
	first := newBox(t, nil)
	first.publish("2.0", 2)
	first.do("refresh", first.refresh)
	first.do("prepare", first.prepare)
	api := first.run()
	// What the status page does of the path.
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		resp, err := http.Get(api + strings.Replace(r.URL.Path, manifest.UpdateRepo, "/repo/", 1))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer resp.Body.Close()
		w.WriteHeader(resp.StatusCode)
		_, _ = io.Copy(w, resp.Body)
	}))
	defer page.Close()
	second := newBox(t, func(c *Config) {
		c.Site.Sources = []string{"box:" + strings.TrimPrefix(page.URL, "http://")}
		c.Root = first.cfg.Root
	})
	second.do("refresh", second.refresh)
	second.do("prepare", second.prepare)
	if v := second.Update(); v.Phase != manifest.UpdatePrepared || v.Prepared.Version != "2.0" {
		t.Errorf("got %+v, want 2.0 prepared", v)
	}
	// Once it runs, it is in the running slot.
	first.init.mu.Lock()
	first.init.swap("2.0", 2)
	first.init.mu.Unlock()
	third := newBox(t, func(c *Config) { c.Site.Sources, c.Root = second.cfg.Site.Sources, first.cfg.Root })
	third.do("refresh", third.refresh)
	third.do("prepare", third.prepare)
}

func TestShareNothing(t *testing.T) {
	b := newBox(t, func(c *Config) { no := false; c.Site.Share = &no })
	b.publish("2.0", 2)
	b.do("refresh", b.refresh)
	b.do("prepare", b.prepare)
	resp, err := http.Get(b.run() + "/repo/timestamp.json")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusForbidden {
		t.Errorf("got %s, want it refused", resp.Status)
	}
}

// TestShareOnlyWhatIsWhole: nothing else of the state or of the slots is given.
func TestShareOnlyWhatIsWhole(t *testing.T) {
	b := newBox(t, nil)
	b.publish("2.0", 2)
	b.do("refresh", b.refresh)
	url := b.run()
	for path, want := range map[string]int{
		"/repo/timestamp.json": 200, "/repo/1.targets.json": 200, "/repo/2.targets.json": 404, "/repo/01.targets.json": 404,
		"/repo/state.json": 404, "/repo/tuf/root.json": 404, "/repo/../state.json": 404, "/repo/": 404,
		"/repo/targets/b/2.0/root.raw": 404, "/repo/targets/b/1.0/root.raw": 404, "/repo/targets/b/2.0": 404,
	} {
		resp, err := http.Get(url + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s: got %d, want %d", path, resp.StatusCode, want)
		}
	}
}

// request is answered with a status and a body.
func request(t *testing.T, method, url, text string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
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

// TestAPI: the verbs by HTTP, one after the other.
func TestAPI(t *testing.T) {
	b := newBox(t, nil)
	b.publish("2.0", 2)
	url := b.run()
	ask := func(method, path string) (int, string) {
		t.Helper()
		return request(t, method, url+path, "")
	}
	if code, body := ask("POST", "/activate"); code != 409 || !strings.Contains(body, "no release is prepared") {
		t.Errorf("activate at once: got %d %s", code, body)
	}
	if code, body := ask("POST", "/refresh"); code != 200 {
		t.Errorf("refresh: got %d %s", code, body)
	}
	if code, body := ask("POST", "/prepare"); code != 202 {
		t.Errorf("prepare: got %d %s", code, body)
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		_, body := ask("GET", "/update")
		var v manifest.Update
		if err := json.Unmarshal([]byte(body), &v); err != nil {
			t.Fatal(err)
		}
		if v.Phase == manifest.UpdatePrepared {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("not prepared after 30 s: %s", body)
		}
	}
	for _, verb := range []string{"/activate", "/reboot"} {
		if code, body := ask("POST", verb); code/100 != 2 {
			t.Errorf("%s: got %d %s", verb, code, body)
		}
	}
	b.init.mu.Lock()
	defer b.init.mu.Unlock()
	if len(b.init.asked) < 2 || b.init.asked[0] != "/update/activate" || b.init.asked[1] != "/reboot" {
		t.Errorf("init was asked %q", b.init.asked)
	}
}
