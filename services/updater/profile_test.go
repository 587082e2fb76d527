package updater

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/waysideos/wayside/services/manifest"
	"github.com/waysideos/wayside/services/site"
)

const other = "version: 1\nsite: shop-13\nlinks: [{name: up, bootstrap: ['kafka:9092'], topics: [a]}]\n"

// startProfile is a box whose updater runs and whose init takes profiles.
func startProfile(t *testing.T, change manifest.ProfileChange, with ...func(*Config)) (b *box, url string) {
	t.Helper()
	b = newBox(t, func(c *Config) {
		c.SiteFile = filepath.Join(t.TempDir(), "site.yaml")
		for _, w := range with {
			w(c)
		}
	})
	b.init.apply = func(want manifest.ApplyProfile) error {
		change.Digest, change.State, change.Time = "d", manifest.ProfileTrial, time.Now()
		if change.Remaining == 0 {
			change.Remaining = 300
		}
		b.init.box.Profile.Change = &change
		return os.WriteFile(b.cfg.SiteFile, want.Text, 0o644)
	}
	s := httptest.NewServer(b.handler())
	t.Cleanup(s.Close)
	go b.Run(t.Context())
	return b, s.URL
}

func postProfile(t *testing.T, url, text string) (int, string) {
	t.Helper()
	return request(t, http.MethodPost, url+"/site?file=shop.yaml", text)
}

// asked waits until init was asked for path, and returns what with.
func (f *fakeInit) waitAsked(t *testing.T, path string) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		f.mu.Lock()
		asked := strings.Join(f.asked, " ")
		f.mu.Unlock()
		if strings.Contains(asked, path) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("init was asked %q, want %s", asked, path)
		}
	}
}

func TestProfileIsKept(t *testing.T) {
	// What was started anew need not be well, only run.
	b, url := startProfile(t, manifest.ProfileChange{Services: []string{"mqtt"}})
	b.mqtt.Links = []manifest.Link{{Name: "up", Up: true}, {Name: "gone", Up: true}}
	code, body := postProfile(t, url, other)
	var p manifest.Profile
	if err := json.Unmarshal([]byte(body), &p); code != http.StatusAccepted || err != nil || p.Change == nil || p.Change.State != manifest.ProfileTrial {
		t.Fatalf("got %d %s", code, body)
	}
	b.init.waitAsked(t, "/site/keep")
}

func TestProfileIsTakenBack(t *testing.T) {
	b, url := startProfile(t, manifest.ProfileChange{Remaining: 0.5})
	b.init.applied = func() { b.mqtt.OK, b.mqtt.Summary = false, "cannot reach the broker" }
	if code, body := postProfile(t, url, other); code != http.StatusAccepted {
		t.Fatalf("got %d %s", code, body)
	}
	b.init.waitAsked(t, "/site/back")
}

// A broker that the profile moves is asked where it is then.
func TestProfileMovesTheBroker(t *testing.T) {
	at := func(broker string) string { return "version: 1\nsite: shop-13\nbroker: {listen: '" + broker + "'}\n" }
	old, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	b, url := startProfile(t, manifest.ProfileChange{Remaining: 30}, func(c *Config) {
		c.Broker = old.ListenAddrs()
		if err := os.WriteFile(c.SiteFile, []byte(at(c.Broker[0])), 0o644); err != nil {
			t.Fatal(err)
		}
	})
	b.init.applied = old.Close
	if code, body := postProfile(t, url, at(broker(t)[0])); code != http.StatusAccepted {
		t.Fatalf("got %d %s", code, body)
	}
	b.init.waitAsked(t, "/site/keep")
}

// What fell now and then in a year says nothing of a profile.
func TestProfileOfABoxThatRunsForLong(t *testing.T) {
	b, url := startProfile(t, manifest.ProfileChange{Remaining: 30})
	b.init.mu.Lock()
	b.init.box.Services[0].Restarts = 40
	b.init.mu.Unlock()
	if code, body := postProfile(t, url, other); code != http.StatusAccepted {
		t.Fatalf("got %d %s", code, body)
	}
	b.init.waitAsked(t, "/site/keep")
}

// With another network the box waits for somebody to reach it.
func TestProfileWaitsToBeReached(t *testing.T) {
	b, url := startProfile(t, manifest.ProfileChange{Network: true})
	looked := make(chan struct{})
	b.init.applied = func() { close(looked) }
	postProfile(t, url, other)
	<-looked
	b.init.mu.Lock()
	for _, path := range b.init.asked {
		if path == "/site/keep" {
			t.Error("kept although nobody has reached the box")
		}
	}
	b.init.mu.Unlock()
	resp, err := http.Get(url + "/site")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	b.init.waitAsked(t, "/site/keep")
}

// Who asked before the change has not reached its network, also if the clock was
// set back in between.
func TestProfileWasReachedBefore(t *testing.T) {
	b, url := startProfile(t, manifest.ProfileChange{Network: true, Remaining: 0.5})
	try := b.init.apply
	b.init.apply = func(want manifest.ApplyProfile) error {
		err := try(want)
		b.init.box.Profile.Change.Time = time.Unix(0, 0)
		return err
	}
	resp, err := http.Get(url + "/site")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	postProfile(t, url, other)
	b.init.waitAsked(t, "/site/back")
}

func TestBadProfile(t *testing.T) {
	b, url := startProfile(t, manifest.ProfileChange{})
	code, body := postProfile(t, url, "version: 1\nsite: shop\nbrokr: {}\n")
	var wrong site.Errors
	want := site.FieldError{File: "shop.yaml", Line: 3, Column: 1, Field: "brokr", Reason: "unknown field", Hint: "broker"}
	if err := json.Unmarshal([]byte(body), &wrong); code != http.StatusUnprocessableEntity || err != nil || len(wrong) != 1 || wrong[0] != want {
		t.Errorf("got %d %s, want %+v", code, body, want)
	}
	if code, _ := postProfile(t, url, strings.Repeat("#", site.MaxSize+2)); code != http.StatusBadRequest {
		t.Errorf("a profile that is too large: got %d", code)
	}
	b.init.took(t)
	b.init.apply = func(manifest.ApplyProfile) error { return &RefusedError{"a version is on trial"} }
	if code, body := postProfile(t, url, other); code != http.StatusConflict || !strings.Contains(body, "a version is on trial") {
		t.Errorf("got %d %s", code, body)
	}
}
