package updater

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/waysideos/wayside/services/manifest"
	"github.com/waysideos/wayside/services/site"
	"github.com/waysideos/wayside/services/updater/source"
	"github.com/waysideos/wayside/services/updater/updatertest"
	"github.com/waysideos/wayside/services/vfs"
)

var begin = time.Date(2026, 3, 4, 10, 0, 0, 0, time.UTC)

// fakeInit keeps slots as init does, in memory.
type fakeInit struct {
	mu    sync.Mutex
	slots manifest.Slots
	box   manifest.Box
	asked []string
	err   error // of the next requests

	apply   func(manifest.ApplyProfile) error // what comes of another profile
	applied func()                            // may be nil: what happens then
}

func newInit() *fakeInit {
	return &fakeInit{
		slots: manifest.Slots{
			Running: manifest.Slot{Role: "root-a", Device: "/dev/a", Version: "1.0", Counter: 1},
			Other:   manifest.Slot{Role: "root-b", Device: "/dev/b"}, Floor: 1,
		},
		box: manifest.Box{Version: "1.0", Board: "b", Clock: manifest.Clock{Synchronised: true, Source: "ntp:x", Floor: begin},
			Services: []manifest.Service{{Name: "mqtt", State: "running", Ready: true}}},
	}
}

func (f *fakeInit) Box(context.Context) (manifest.Box, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.box, nil
}

func (f *fakeInit) Slots(context.Context) (manifest.Slots, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.slots, nil
}

func (f *fakeInit) Ask(_ context.Context, path string, body any) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, path)
	if f.err != nil {
		return f.err
	}
	s := &f.slots
	switch b := body.(type) {
	case manifest.ApplyProfile:
		if err := f.apply(b); err != nil {
			return err
		}
		if f.applied != nil {
			f.applied()
		}
	case manifest.Activate:
		s.Pending = &b
	case manifest.Commit:
		s.Last = &manifest.Outcome{Version: s.Running.Version, Counter: s.Running.Counter, Committed: true, Checks: b.Checks}
		s.Trial, s.Floor = nil, s.Running.Counter
	case manifest.Fail:
		s.Last = &manifest.Outcome{Version: s.Running.Version, Counter: s.Running.Counter, Check: b.Check, Reason: b.Reason, Time: begin}
		s.Failed = append(s.Failed, *s.Last)
		f.swap("1.0", 1)
	case manifest.Retry:
		s.Failed = slices.DeleteFunc(s.Failed, func(o manifest.Outcome) bool { return o.Version == b.Version })
	}
	switch path {
	case "/update/cancel":
		s.Pending = nil
	case "/reboot":
		if p := s.Pending; p != nil {
			f.swap(p.Version, p.Counter)
			s.Trial, s.Pending = &manifest.Trial{Version: p.Version, TriesLeft: 2, TriesDone: 1, Remaining: 600}, nil
		}
	}
	return nil
}

// swap boots the other slot.
func (f *fakeInit) swap(version string, counter uint64) {
	s := &f.slots
	s.Running, s.Other = s.Other, s.Running
	s.Running.Version, s.Running.Counter = version, counter
	s.Trial = nil
	f.box.Version = version
}

func (f *fakeInit) took(t *testing.T, want ...string) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if !slices.Equal(f.asked, want) {
		t.Errorf("init was asked %q, want %q", f.asked, want)
	}
	f.asked = nil
}

// box is an updater with all that it needs around it.
type box struct {
	*Updater
	init  *fakeInit
	disk  *vfs.Crashable
	cfg   Config
	repo  *updatertest.Repo
	mqtt  *manifest.Report
	clock time.Time
	t     *testing.T

	ranges bool // its repository's server knows them
}

const (
	front = 1 << 20
	back  = 64 << 10
)

// newBox is a box in front of a repository, with a broker and one connector.
func newBox(t *testing.T, change func(c *Config)) *box {
	t.Helper()
	b := &box{t: t, init: newInit(), disk: vfs.NewCrashable(1), mqtt: &manifest.Report{Name: "mqtt", OK: true}, clock: begin}
	b.repo = updatertest.NewRepo(t, begin)
	updatertest.NewDevice(t, b.disk, "a", front, back)
	dev := updatertest.NewDevice(t, b.disk, "b", front, back)
	dev.Locked = func(name string) bool {
		b.init.mu.Lock()
		defer b.init.mu.Unlock()
		return b.init.slots.Running.Device == "/dev/"+name
	}
	share := true
	b.cfg = Config{
		Site: site.Update{Sources: []string{b.serve()}, Auto: site.AutoOff, Zone: "UTC", TrialMinutes: 10, SettleSeconds: 1, Share: &share},
		Root: b.repo.Root(), Arch: "amd64", State: b.disk, Dev: dev, Init: b.init, RunDir: b.services(), Broker: broker(t),
		Log: slog.New(slog.DiscardHandler), Media: t.TempDir(),
	}
	if change != nil {
		change(&b.cfg)
	}
	b.restart()
	return b
}

// restart makes the updater anew, as after a crash or a reboot.
func (b *box) restart() {
	b.t.Helper()
	u, err := New(b.cfg)
	if err != nil {
		b.t.Fatal(err)
	}
	u.pace = pace{tick: time.Millisecond, look: 0, refresh: time.Hour, gate: 20 * time.Millisecond, profile: time.Millisecond, blame: time.Minute, margin: 0,
		quick:    source.Patience{Tries: 2, Low: time.Millisecond, High: time.Millisecond},
		patience: source.Patience{Tries: 3, Low: time.Millisecond, High: time.Millisecond}}
	u.now = func() time.Time { return b.clock }
	u.started = b.clock
	b.Updater = u
}

func broker(t *testing.T) []string {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c.ListenAddrs()
}

// serve has the repository on a web server.
func (b *box) serve() string {
	b.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, ok := b.repo.Files[r.URL.Path[1:]]
		if !ok {
			http.NotFound(w, r)
			return
		}
		if b.ranges {
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
			return
		}
		_, _ = w.Write(data)
	})}
	go s.Serve(l)
	b.t.Cleanup(func() { s.Close() })
	return "http://" + l.Addr().String()
}

// services has the connector answer.
func (b *box) services() string {
	b.t.Helper()
	dir, err := os.MkdirTemp("", "updater") // t.TempDir can be too long for a socket
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Mkdir(filepath.Join(dir, "mqtt"), 0o755); err != nil {
		b.t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(dir, "mqtt", manifest.StatusSock))
	if err != nil {
		b.t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(b.mqtt) })}
	go s.Serve(l)
	b.t.Cleanup(func() { s.Close() })
	return dir
}

func (b *box) publish(version string, counter uint64) updatertest.Release {
	b.t.Helper()
	r := updatertest.NewRelease(b.t, version, counter, 100, 20_000)
	r.AddTo(b.repo)
	b.repo.Publish()
	return r
}

func (b *box) do(what string, verb func(context.Context) error) {
	b.t.Helper()
	if err := b.settle(b.t.Context(), what, verb(b.t.Context())); err != nil {
		b.t.Fatalf("%s: %v", what, err)
	}
}
