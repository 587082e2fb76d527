package trust

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/waysideos/wayside/image/release"
	"github.com/waysideos/wayside/services/updater/source"
	"github.com/waysideos/wayside/services/updater/updatertest"
	"github.com/waysideos/wayside/services/vfs"
)

var now = time.Date(2026, 3, 4, 10, 0, 0, 0, time.UTC)

func target(version string, counter uint64) *release.Target {
	return &release.Target{Format: 1, Kind: release.KindRelease, Board: "b", Arch: "amd64", Version: version, Counter: counter,
		RootHash: strings.Repeat("ab", 32), DataBlocks: 1, RootBytes: 8192, UKIBytes: 3, PackBytes: 4}
}

func add(r *updatertest.Repo, version string, counter uint64) {
	r.Add("b/"+version+"/wayside.efi", []byte("uki"), target(version, counter))
}

func config(fsys vfs.FS, r *updatertest.Repo) Config {
	return Config{FS: fsys, Root: r.Files["1.root.json"], Now: now, Log: slog.New(slog.DiscardHandler)}
}

// newRepo is a repository with two releases that a box has seen.
func newRepo(t *testing.T) (*updatertest.Repo, vfs.FS) {
	t.Helper()
	r := updatertest.NewRepo(t, now)
	add(r, "1.0", 1)
	add(r, "2.0", 2)
	r.Publish()
	fsys := vfs.NewCrashable(1)
	c, err := Refresh(t.Context(), config(fsys, r), r.Source())
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Releases) != 2 || c.Releases[0].Version != "2.0" {
		t.Fatalf("got releases %v, want 2.0 and 1.0", c.Releases)
	}
	return r, fsys
}

// TestAttacks: each is refused, in words, and an honest repository is
// believed afterwards.
func TestAttacks(t *testing.T) {
	tests := []struct {
		name string
		// attack gives what the box is served; r is the honest repository.
		attack func(t *testing.T, r *updatertest.Repo) updatertest.Files
		role   string
		words  string
	}{
		{"rollback of everything", func(t *testing.T, r *updatertest.Repo) updatertest.Files {
			old := r.Source()
			r.Publish()
			refreshed(t, r)
			return old
		}, metadata.TIMESTAMP, "older than"},
		{"rollback of the snapshot by a stolen timestamp key", func(t *testing.T, r *updatertest.Repo) updatertest.Files {
			r.Publish()
			refreshed(t, r)
			r.Versions[metadata.SNAPSHOT] = 0
			r.Publish()
			return r.Source()
		}, metadata.TIMESTAMP, "older than"},
		{"rollback of the targets by stolen snapshot and timestamp keys", func(t *testing.T, r *updatertest.Repo) updatertest.Files {
			r.Publish()
			refreshed(t, r)
			r.Versions[metadata.TARGETS] = 0
			r.Publish()
			return r.Source()
		}, metadata.SNAPSHOT, "older than"},
		{"freeze", func(_ *testing.T, r *updatertest.Repo) updatertest.Files {
			r.Expires[metadata.TIMESTAMP] = now.Add(-time.Second)
			r.Publish()
			return r.Source()
		}, metadata.TIMESTAMP, "expired"},
		{"expired snapshot", func(_ *testing.T, r *updatertest.Repo) updatertest.Files {
			r.Expires[metadata.SNAPSHOT] = now.Add(-time.Second)
			r.Publish()
			return r.Source()
		}, metadata.SNAPSHOT, "expired"},
		{"expired targets", func(_ *testing.T, r *updatertest.Repo) updatertest.Files {
			r.Expires[metadata.TARGETS] = now.Add(-time.Second)
			r.Publish()
			return r.Source()
		}, metadata.TARGETS, "expired"},
		{"expired root", func(_ *testing.T, r *updatertest.Repo) updatertest.Files {
			r.Expires[metadata.ROOT] = now.Add(-time.Second)
			r.PublishRoot(r.Keys[metadata.ROOT])
			r.Publish()
			return r.Source()
		}, metadata.TIMESTAMP, "expired"},
		{"mix and match", func(_ *testing.T, r *updatertest.Repo) updatertest.Files {
			other := r.Source()
			add(r, "3.0", 3)
			r.Publish()
			mixed := r.Source()
			mixed["2.targets.json"] = other["1.targets.json"]
			return mixed
		}, metadata.TARGETS, "not the file"},
		{"altered targets", func(_ *testing.T, r *updatertest.Repo) updatertest.Files {
			r.Publish()
			f := r.Source()
			f["2.targets.json"] = bytes.Replace(f["2.targets.json"], []byte("2.0"), []byte("6.6"), 1)
			return f
		}, metadata.TARGETS, "not the file"},
		{"wrong keys", func(t *testing.T, r *updatertest.Repo) updatertest.Files {
			r.Keys[metadata.TIMESTAMP] = []ed25519.PrivateKey{updatertest.NewKey(t)}
			r.Publish()
			return r.Source()
		}, metadata.TIMESTAMP, "not signed by enough"},
		{"wrong targets key under right timestamp and snapshot", func(t *testing.T, r *updatertest.Repo) updatertest.Files {
			r.Keys[metadata.TARGETS] = []ed25519.PrivateKey{updatertest.NewKey(t)}
			r.Publish()
			return r.Source()
		}, metadata.TARGETS, "not signed by enough"},
		{"a root of somebody else", func(t *testing.T, r *updatertest.Repo) updatertest.Files {
			r.Keys[metadata.ROOT] = []ed25519.PrivateKey{updatertest.NewKey(t)}
			r.PublishRoot(nil)
			return r.Source()
		}, metadata.ROOT, "not signed by enough"},
		{"a root that leaves one out", func(_ *testing.T, r *updatertest.Repo) updatertest.Files {
			r.PublishRoot(r.Keys[metadata.ROOT])
			r.PublishRoot(r.Keys[metadata.ROOT])
			f := r.Source()
			f["2.root.json"] = f["3.root.json"]
			return f
		}, metadata.ROOT, "older than"},
		{"garbage", func(_ *testing.T, r *updatertest.Repo) updatertest.Files {
			f := r.Source()
			f["timestamp.json"] = []byte("<html>sign in to the guest network</html>")
			return f
		}, metadata.TIMESTAMP, "cannot be used"},
		{"a part left out by a stolen key", func(_ *testing.T, r *updatertest.Repo) updatertest.Files {
			m := metadata.Timestamp(now.Add(time.Hour))
			m.Signed.Version = 9
			delete(m.Signed.Meta, "snapshot.json")
			f := r.Source()
			f["timestamp.json"] = r.Sign(metadata.TIMESTAMP, m.Sign, m.ToBytes)
			return f
		}, metadata.TIMESTAMP, "cannot be used"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, fsys := newRepo(t)
			keys := map[string][]ed25519.PrivateKey{}
			for role, k := range r.Keys {
				keys[role] = k
			}
			boxes[r] = fsys
			defer delete(boxes, r)
			served := tt.attack(t, r)
			c, err := Refresh(t.Context(), config(fsys, r), served)
			var e *Error
			if !errors.As(err, &e) || e.Role != tt.role || !strings.Contains(err.Error(), tt.words) {
				t.Fatalf("got %v, %v; want %s metadata refused with %q", c, err, tt.role, tt.words)
			}
			honest(t, r, fsys, keys)
		})
	}
}

// boxes lets an attack refresh the box that it is about to be played on.
var boxes = map[*updatertest.Repo]vfs.FS{}

func refreshed(t *testing.T, r *updatertest.Repo) {
	t.Helper()
	if _, err := Refresh(t.Context(), config(boxes[r], r), r.Source()); err != nil {
		t.Fatal(err)
	}
}

// honest has the owner publish anew, with versions above all that was seen.
func honest(t *testing.T, r *updatertest.Repo, fsys vfs.FS, keys map[string][]ed25519.PrivateKey) {
	t.Helper()
	r.Keys = keys
	for role, v := range map[string]int64{metadata.TARGETS: 20, metadata.SNAPSHOT: 20, metadata.TIMESTAMP: 20} {
		r.Versions[role] = v
		r.Expires[role] = now.Add(time.Hour)
	}
	r.Expires[metadata.ROOT] = now.Add(time.Hour)
	r.Versions[metadata.ROOT] = keptRoot(t, fsys)
	for name := range r.Files {
		var n int64
		if _, err := fmt.Sscanf(name, "%d.root.json", &n); err == nil && n > r.Versions[metadata.ROOT] {
			delete(r.Files, name)
		}
	}
	r.PublishRoot(keys[metadata.ROOT])
	add(r, "4.0", 4)
	r.Publish()
	c, err := Refresh(t.Context(), config(fsys, r), r.Source())
	if err != nil || c.Releases[0].Version != "4.0" {
		t.Fatalf("after the attack the honest repository: got %v, %v", c, err)
	}
}

func keptRoot(t *testing.T, fsys vfs.FS) int64 {
	t.Helper()
	data, err := load(fsys, metadata.ROOT)
	if err != nil {
		t.Fatal(err)
	}
	if data == nil {
		return 1
	}
	m, err := metadata.Root().FromBytes(data)
	if err != nil {
		t.Fatal(err)
	}
	return m.Signed.Version
}

// TestThreshold: one of two keys is not enough.
func TestThreshold(t *testing.T) {
	r := updatertest.NewRepo(t, now)
	second := updatertest.NewKey(t)
	r.Threshold = 1
	before := r.Keys[metadata.ROOT]
	for _, role := range updatertest.Roles {
		r.Keys[role] = append([]ed25519.PrivateKey{second}, r.Keys[role]...)
	}
	r.Threshold = 2
	r.PublishRoot(before)
	r.Publish()
	fsys := vfs.NewCrashable(1)
	if _, err := Refresh(t.Context(), config(fsys, r), r.Source()); err != nil {
		t.Fatalf("both keys: %v", err)
	}
	r.Keys[metadata.TARGETS] = []ed25519.PrivateKey{second}
	r.Publish()
	if _, err := Refresh(t.Context(), config(fsys, r), r.Source()); err == nil || !strings.Contains(err.Error(), "not signed by enough") {
		t.Errorf("one of two keys: got %v, want it refused", err)
	}
}

// TestRotation: a box on the oldest root follows the chain, and a box that
// has followed it does so without the old roots.
func TestRotation(t *testing.T) {
	r := updatertest.NewRepo(t, now)
	for range 5 {
		before := r.Keys[metadata.ROOT]
		for _, role := range updatertest.Roles {
			r.Keys[role] = []ed25519.PrivateKey{updatertest.NewKey(t)}
		}
		r.PublishRoot(before)
	}
	add(r, "1.0", 1)
	r.Publish()
	fsys := vfs.NewCrashable(1)
	if _, err := Refresh(t.Context(), config(fsys, r), r.Source()); err != nil {
		t.Fatal(err)
	}
	if got := keptRoot(t, fsys); got != 6 {
		t.Errorf("kept root: got version %d, want 6", got)
	}
	src := r.Source()
	for n := range 6 {
		delete(src, fmt.Sprintf("%d.root.json", n))
	}
	if _, err := Refresh(t.Context(), config(fsys, r), src); err != nil {
		t.Errorf("without the old roots: %v", err)
	}
	// Another box may follow the chain from this one.
	for n := 2; n <= 6; n++ {
		data, err := SharedFile(fsys, fmt.Sprintf("%d.root.json", n))
		if err != nil || !bytes.Equal(data, r.Files[fmt.Sprintf("%d.root.json", n)]) {
			t.Errorf("shared root %d: %d bytes, %v", n, len(data), err)
		}
	}
}

// TestClock: the time that expiry is judged by is the caller's, at 1970 too.
func TestClock(t *testing.T) {
	r, fsys := newRepo(t)
	for at, good := range map[time.Time]bool{time.Unix(0, 0): true, now: true, now.AddDate(1, 0, 0): false} {
		c := config(fsys, r)
		c.Now = at
		if _, err := Refresh(t.Context(), c, r.Source()); (err == nil) != good {
			t.Errorf("at %s: got %v, want it believed: %v", at, err, good)
		}
	}
}

// TestPowerCut: at whatever operation the power goes, what is kept refuses a
// rollback that it could refuse before, and the next refresh works.
func TestPowerCut(t *testing.T) {
	for seed := range uint64(8) {
		for cut := 1; ; cut++ {
			r := updatertest.NewRepo(t, now)
			add(r, "1.0", 1)
			r.Publish()
			c := vfs.NewCrashable(seed)
			if _, err := Refresh(t.Context(), config(c, r), r.Source()); err != nil {
				t.Fatal(err)
			}
			old := r.Source()
			add(r, "2.0", 2)
			r.PublishRoot(r.Keys[metadata.ROOT])
			r.Publish()
			n := 0
			c.SetHook(func(vfs.Op, string) error {
				if n++; n == cut {
					return vfs.ErrCrashed
				}
				return nil
			})
			_, err := Refresh(t.Context(), config(c, r), r.Source())
			after := c.Crash()
			if err == nil {
				if _, err := Refresh(t.Context(), config(after, r), old); err == nil {
					t.Fatalf("seed %d: what was believed was forgotten over a power cut", seed)
				}
			}
			got, refreshErr := Refresh(t.Context(), config(after, r), r.Source())
			if refreshErr != nil || got.Releases[0].Version != "2.0" {
				t.Fatalf("seed %d, cut at %d: next refresh: %v", seed, cut, refreshErr)
			}
			if err == nil {
				break
			}
		}
	}
}

func TestCatalog(t *testing.T) {
	r, fsys := newRepo(t)
	liar := target("9.0", 9)
	liar.Board = "other"
	r.Add("b/9.0/wayside.efi", []byte("x"), liar)
	r.Add("b/8.0/wayside.efi", []byte("x"), &release.Target{Format: 7})
	r.Add("b/2.0/root.pack", []byte("pack"), nil)
	r.Publish()
	c, err := Refresh(t.Context(), config(fsys, r), r.Source())
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Releases) != 2 || len(c.Problems) != 2 {
		t.Errorf("got releases %v and problems %q, want two of each", c.Releases, c.Problems)
	}
	f, ok := c.File(c.Releases[0], release.TargetPack)
	data, err := source.ReadAll(t.Context(), r.Source(), f.Name, 10)
	if !ok || err != nil || string(data) != "pack" || f.Length != 4 {
		t.Errorf("file: got %v, %v, %q, %v", f, ok, data, err)
	}
	if _, ok := c.File(c.Releases[0], "other"); ok {
		t.Error("a file that was not published was found")
	}
	again, err := Stored(config(fsys, r))
	if err != nil || len(again.Releases) != 2 {
		t.Errorf("from what is kept: got %v, %v", again, err)
	}
}

// FuzzRefresh: whatever a server sends, the box says no and goes on.
func FuzzRefresh(f *testing.F) {
	r := updatertest.NewRepo(f, now)
	add(r, "1.0", 1)
	r.Publish()
	for name, data := range r.Files {
		f.Add(name, data)
	}
	f.Fuzz(func(t *testing.T, name string, data []byte) {
		src := r.Source()
		src[name] = data
		c, err := Refresh(t.Context(), config(vfs.NewCrashable(1), r), src)
		if err == nil && (len(c.Releases) != 1 || c.Releases[0].Version != "1.0") {
			t.Errorf("%s: believed %v", name, c.Releases)
		}
	})
}
