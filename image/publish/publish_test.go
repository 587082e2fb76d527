package publish

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/config"
	"github.com/theupdateframework/go-tuf/v2/metadata/updater"

	"github.com/waysideos/wayside/image/delta"
	"github.com/waysideos/wayside/image/keys"
	"github.com/waysideos/wayside/image/layout"
	"github.com/waysideos/wayside/image/release"
	"github.com/waysideos/wayside/services/manifest"
)

var start = time.Unix(1_780_000_000, 0)

// world is a key folder and a repository.
type world struct {
	t    *testing.T
	keys string
	repo string
	now  time.Time
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, keys: filepath.Join(t.TempDir(), "keys"), repo: filepath.Join(t.TempDir(), "repo"), now: start}
	if _, err := keys.Init(w.keys, keys.Options{}, nil, w.now); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) folder() *keys.Folder {
	w.t.Helper()
	f, err := keys.Open(w.keys, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return f
}

func (w *world) open() *Repo {
	w.t.Helper()
	r, err := Open(w.repo, w.folder(), plain, w.now)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(r.Close)
	return r
}

// plain is a Pack that compresses nothing.
func plain(_ context.Context, rel Release, index, pack io.Writer) (int64, error) {
	fmt.Fprint(index, "index of ", rel.Target.Version)
	return io.Copy(pack, rel.Root)
}

// sample is a release without sense, but for its sizes.
func (w *world) sample(version string, counter uint64) Release {
	w.t.Helper()
	root, err := keys.UpdateRoot(w.keys)
	if err != nil {
		w.t.Fatal(err)
	}
	content := bytes.Repeat([]byte(version), 3*layout.VerityBlock)[:3*layout.VerityBlock]
	return Release{
		Target: release.Target{
			Format: 1, Kind: release.KindRelease, Board: "test-board", Arch: "amd64", Version: version, Counter: counter,
			RootHash: strings.Repeat("0a", 32), DataBlocks: 2, RootBytes: 4 * layout.VerityBlock, Notes: "what <changed> & why",
		},
		UKI: []byte("kernel " + version), Root: io.NewSectionReader(bytes.NewReader(content), 0, int64(len(content))),
		UpdateRoot: root, SBOM: []byte("{}"), Provenance: []byte("[]"),
	}
}

func (w *world) publish(rels ...Release) {
	w.t.Helper()
	r := w.open()
	defer r.Close()
	for _, rel := range rels {
		if _, err := r.Add(w.t.Context(), rel); err != nil {
			w.t.Fatal(err)
		}
	}
	if err := r.Commit(); err != nil {
		w.t.Fatal(err)
	}
}

// dirFetcher serves a repository's folder as a static web server does.
type dirFetcher struct{ dir string }

func (f dirFetcher) DownloadFile(address string, limit int64, _ time.Duration) ([]byte, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(filepath.Join(f.dir, filepath.FromSlash(u.Path)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &metadata.ErrDownloadHTTP{StatusCode: 404, URL: address}
	}
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s: %d bytes, more than %d", address, len(data), limit)
	}
	return data, err
}

// box is a TUF client with the root that its image had, and what it has seen.
type box struct {
	root  []byte
	cache string
}

func (w *world) box(rootVersion int64) *box {
	w.t.Helper()
	root, err := keys.ReadRoot(w.keys, rootVersion)
	if err != nil {
		w.t.Fatal(err)
	}
	return &box{root: root, cache: w.t.TempDir()}
}

// refresh is what a box sees: each release's UKI, by version. All files of
// each are fetched, as an update does.
func (b *box) refresh(w *world) (map[string]string, error) {
	cfg, err := config.New("http://repo.example/", b.root)
	if err != nil {
		return nil, err
	}
	cfg.LocalMetadataDir, cfg.LocalTargetsDir, cfg.Fetcher = b.cache, w.t.TempDir(), dirFetcher{w.repo}
	up, err := updater.New(cfg)
	if err != nil {
		return nil, err
	}
	up.UnsafeSetRefTime(w.now)
	if err := up.Refresh(); err != nil {
		return nil, err
	}
	seen := map[string]string{}
	for name, info := range up.GetTopLevelTargets() {
		info.Path = name
		_, data, err := up.DownloadTarget(info, "", "")
		if err != nil {
			return nil, fmt.Errorf("fetch %s: %w", name, err)
		}
		if info.Custom != nil {
			t, err := release.DecodeTarget(*info.Custom)
			if err != nil {
				return nil, err
			}
			seen[t.Version] = string(data)
		}
	}
	return seen, nil
}

func (b *box) want(w *world, versions ...string) {
	w.t.Helper()
	got, err := b.refresh(w)
	if err != nil {
		w.t.Fatalf("box: %v", err)
	}
	want := map[string]string{}
	for _, v := range versions {
		want[v] = "kernel " + v
	}
	if diff := cmp.Diff(want, got); diff != "" {
		w.t.Fatalf("releases that a box sees (-want +got):\n%s", diff)
	}
}

func TestPublishAndFetch(t *testing.T) {
	w := newWorld(t)
	b := w.box(1)
	w.publish(w.sample("1.0", 1))
	b.want(w, "1.0")
	w.publish(w.sample("1.1", 2))
	b.want(w, "1.0", "1.1")
	r := w.open()
	all, err := r.Releases()
	if err != nil || len(all) != 2 {
		t.Fatalf("got %d releases, %v", len(all), err)
	}
	want := w.sample("1.1", 2).Target
	want.PackBytes = 3 * layout.VerityBlock
	if diff := cmp.Diff(want, all[0].Target); diff != "" {
		t.Errorf("newest release (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]int64{"wayside.efi": 10, "root.pack": 12288, "root.index": 12, "sbom.spdx.json": 2, "provenance.json": 2}, all[0].Files); diff != "" {
		t.Errorf("its files (-want +got):\n%s", diff)
	}
	if _, err := Open(w.repo, w.folder(), plain, w.now); err == nil {
		t.Error("two publishers work on one repository")
	}
}

func TestPublishingTwiceIsOnce(t *testing.T) {
	w := newWorld(t)
	w.publish(w.sample("1.0", 2))
	r := w.open()
	if added, err := r.Add(t.Context(), w.sample("1.0", 2)); added || err != nil {
		t.Errorf("the same again: got added %v, %v", added, err)
	}
	for name, change := range map[string]func(*Release){
		"same version, other content": func(r *Release) { r.Target.Version, r.UKI = "1.0", []byte("other") },
		"same version, other notes":   func(r *Release) { r.Target.Version, r.UKI, r.Target.Notes = "1.0", []byte("kernel 1.0"), "" },
		"same counter":                func(r *Release) { r.Target.Counter = 2 },
		"lower counter":               func(r *Release) { r.Target.Counter = 1 },
		"what no box could read":      func(r *Release) { r.Target.DropsDrivers = []string{"no such/module"} },
		"no update root":              func(r *Release) { r.UpdateRoot = nil },
		"another's update root":       func(r *Release) { r.UpdateRoot = foreignRoot(t) },
		"update root is garbage":      func(r *Release) { r.UpdateRoot = []byte("{}") },
		"kernel too large":            func(r *Release) { r.UKI = make([]byte, manifest.StagedMax+1) },
	} {
		rel := w.sample("2.0", 3)
		change(&rel)
		if rel.Target.Version == "1.0" {
			rel.Target.Counter = 2
		}
		if _, err := r.Add(t.Context(), rel); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	other := w.sample("1.0", 2)
	other.Target.Board = "other-board"
	down := w.sample("0.9", 1)
	down.Target.Downgrade = true
	if added, err := r.Add(t.Context(), other); !added || err != nil {
		t.Errorf("the same counter for another board: got %v, %v", added, err)
	}
	if added, err := r.Add(t.Context(), down); !added || err != nil {
		t.Errorf("a permitted downgrade: got %v, %v", added, err)
	}
}

func foreignRoot(t *testing.T) []byte {
	t.Helper()
	other := newWorld(t)
	root, err := keys.UpdateRoot(other.keys)
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func TestAnothersRepositoryIsRefused(t *testing.T) {
	w, other := newWorld(t), newWorld(t)
	w.publish(w.sample("1.0", 1))
	other.repo = w.repo
	if _, err := Open(w.repo, other.folder(), plain, w.now); err == nil || !strings.Contains(err.Error(), "other keys") {
		t.Errorf("got %v, want an error about other keys", err)
	}
	for _, name := range []string{"timestamp.json", fmt.Sprint(start.Unix(), ".targets.json"), fmt.Sprint(start.Unix(), ".snapshot.json")} {
		data, err := os.ReadFile(filepath.Join(w.repo, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(w.repo, name), bytes.Replace(data, []byte(`"version"`), []byte(`"versiom"`), 1), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(w.repo, w.folder(), plain, w.now); err == nil {
			t.Errorf("altered %s: accepted", name)
		}
		if err := os.WriteFile(filepath.Join(w.repo, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// A box that holds the first root ever, and one that has seen each state,
// both follow whatever is rotated.
func TestRotationIsFollowed(t *testing.T) {
	w := newWorld(t)
	w.publish(w.sample("1.0", 1))
	old, follower := w.box(1), w.box(1)
	follower.want(w, "1.0")
	versions := []string{"1.0"}
	for i, role := range []string{"timestamp", "snapshot", "targets", "root", "root", "timestamp", "targets"} {
		w.now = w.now.Add(time.Hour)
		if _, err := w.folder().Rotate(role, "", w.now); err != nil {
			t.Fatal(err)
		}
		w.publish() // refresh
		follower.want(w, versions...)
		old.want(w, versions...)
		old = w.box(1)
		versions = append(versions, fmt.Sprint("1.", i+1))
		w.publish(w.sample(versions[len(versions)-1], uint64(i+2)))
		follower.want(w, versions...)
		w.box(int64(i+2)).want(w, versions...)
	}
	if data, err := os.ReadFile(filepath.Join(w.repo, "1.root.json")); err != nil || !bytes.Equal(data, old.root) {
		t.Errorf("the first root is not kept: %v", err)
	}
}

// A timestamp key that leaked signs nothing that a box believes once the
// rotation is published.
func TestRetiredKeyIsWorthless(t *testing.T) {
	w := newWorld(t)
	w.publish(w.sample("1.0", 1))
	frozen, err := os.ReadFile(filepath.Join(w.repo, timestampFile))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.folder().Rotate("timestamp", "", w.now); err != nil {
		t.Fatal(err)
	}
	w.publish()
	if err := os.WriteFile(filepath.Join(w.repo, timestampFile), frozen, 0o644); err != nil {
		t.Fatal(err)
	}
	if got, err := w.box(1).refresh(w); err == nil {
		t.Errorf("a timestamp of the retired key alone was believed: %v", got)
	}
}

func TestExpiryAndRefresh(t *testing.T) {
	w := newWorld(t)
	w.publish(w.sample("1.0", 1))
	b := w.box(1)
	day := 24 * time.Hour
	w.now = start.Add(31 * day)
	if _, err := b.refresh(w); err == nil {
		t.Error("a repository that nobody refreshed for a month is believed")
	}
	w.publish()
	b.want(w, "1.0")
	w.now = start.Add(60 * day) // past half of the snapshot's time, not of the targets'
	r := w.open()
	before := r.targets.Signed.Version
	if err := r.Commit(); err != nil {
		t.Fatal(err)
	}
	if r.targets.Signed.Version != before || !r.Expiries()["snapshot"].Equal(w.now.Add(90*day)) {
		t.Errorf("got targets %d (was %d), expiries %v; want the snapshot signed anew and the targets left", r.targets.Signed.Version, before, r.Expiries())
	}
	r.Close()
	w.now = start.Add(6 * 365 * day)
	if _, err := Open(w.repo, w.folder(), plain, w.now); err == nil || !strings.Contains(err.Error(), "keys renew") {
		t.Errorf("an expired root: got %v, want an error that says what to do", err)
	}
	if _, err := w.folder().Renew(w.now); err != nil {
		t.Fatal(err)
	}
	w.publish()
	b.want(w, "1.0")
}

// What was lost and is made again is newer to a box than what it knew.
func TestLostRepository(t *testing.T) {
	w := newWorld(t)
	w.publish(w.sample("1.0", 1))
	b := w.box(1)
	b.want(w, "1.0")
	w.repo = filepath.Join(t.TempDir(), "anew")
	w.now = w.now.Add(time.Minute)
	w.publish(w.sample("1.0", 1), w.sample("1.1", 2))
	b.want(w, "1.0", "1.1")
}

func TestRemove(t *testing.T) {
	w := newWorld(t)
	w.publish(w.sample("1.0", 1), w.sample("1.1", 2))
	r := w.open()
	if err := r.Remove("1.2", ""); err == nil {
		t.Error("what was never published was removed")
	}
	if err := r.Remove("1.1", "other-board"); err == nil {
		t.Error("another board's release was removed")
	}
	if err := r.Remove("1.1", ""); err != nil {
		t.Fatal(err)
	}
	if err := r.Commit(); err != nil {
		t.Fatal(err)
	}
	r.Close()
	w.box(1).want(w, "1.0")
	if left, err := filepath.Glob(filepath.Join(w.repo, "targets/test-board/*")); err != nil || len(left) != 1 {
		t.Errorf("got folders %q, want that of 1.0", left)
	}
}

var errPower = errors.New("the power fails here")

// interrupted runs a change with the power failing before its n-th step, and
// tells whether it got that far.
func (w *world) interrupted(n int, change func(*Repo) error) (failed bool, steps []string) {
	w.t.Helper()
	r := w.open()
	defer r.Close()
	r.files.before = func(op, name string) error {
		if steps = append(steps, op+" "+name); len(steps) > n {
			return errPower
		}
		return nil
	}
	err := change(r)
	if err != nil && !errors.Is(err, errPower) {
		w.t.Fatalf("step %d: %v", n, err)
	}
	return err != nil, steps
}

func TestInterrupted(t *testing.T) {
	// prepare is done whole, change is interrupted.
	for name, c := range map[string]struct {
		prepare  func(*world)
		change   func(*world) func(*Repo) error
		old, new []string
	}{
		"release": {
			prepare: func(*world) {},
			change: func(w *world) func(*Repo) error {
				return func(r *Repo) error {
					if _, err := r.Add(t.Context(), w.sample("1.1", 2)); err != nil {
						return err
					}
					return r.Commit()
				}
			},
			old: []string{"1.0"}, new: []string{"1.0", "1.1"},
		},
		"rotation of all and removal": {
			prepare: func(w *world) {
				for _, role := range []string{"timestamp", "root", "snapshot", "targets"} {
					if _, err := w.folder().Rotate(role, "", w.now); err != nil {
						t.Fatal(err)
					}
				}
			},
			change: func(w *world) func(*Repo) error {
				return func(r *Repo) error {
					if err := r.Remove("1.0", ""); err != nil && len(r.targets.Signed.Targets) > 0 {
						return err
					}
					return r.Commit()
				}
			},
			old: []string{"1.0"}, new: nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			base := newWorld(t)
			base.publish(base.sample("1.0", 1))
			seen := base.box(1)
			seen.want(base, "1.0")
			base.now = base.now.Add(time.Minute)
			c.prepare(base)
			sawOld, sawNew := false, false
			for n := 0; ; n++ {
				w := &world{t: t, keys: base.keys, repo: filepath.Join(t.TempDir(), "repo"), now: base.now}
				if err := os.CopyFS(w.repo, os.DirFS(base.repo)); err != nil {
					t.Fatal(err)
				}
				failed, steps := w.interrupted(n, c.change(w))
				for _, b := range []*box{w.box(1), {root: seen.root, cache: copyDir(t, seen.cache)}} {
					got, err := b.refresh(w)
					if err != nil {
						t.Fatalf("after %q: %v", steps, err)
					}
					isOld, isNew := len(got) == len(c.old), len(got) == len(c.new)
					if !isOld && !isNew {
						t.Fatalf("after %q: a box sees %v, neither old nor new", steps, got)
					}
					sawOld, sawNew = sawOld || isOld && failed, sawNew || isNew && failed
				}
				if !failed {
					checkOrder(t, steps)
					break
				}
				if failed, _ := w.interrupted(1e9, c.change(w)); failed {
					t.Fatal("the second attempt did not finish")
				}
				w.box(1).want(w, c.new...)
			}
			if !sawOld || !sawNew {
				t.Errorf("interruptions left old: %v, new: %v; want both somewhere", sawOld, sawNew)
			}
		})
	}
}

func copyDir(t *testing.T, dir string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return to
}

// checkOrder wants every file synced before it gets its name, and all that
// timestamp.json tells of before it.
func checkOrder(t *testing.T, steps []string) {
	t.Helper()
	last := slices.Index(steps, "rename "+timestampFile)
	for i, s := range steps {
		op, name, _ := strings.Cut(s, " ")
		if op != "rename" {
			continue
		}
		if j := slices.Index(steps, "sync "+name); j < 0 || j > i {
			t.Errorf("%s gets its name unsynced", name)
		}
		if i > last && !strings.HasSuffix(name, ".root.json") {
			t.Errorf("%s is written after %s, which names it", name, timestampFile)
		}
	}
}

func TestStaleFilesAreSwept(t *testing.T) {
	w := newWorld(t)
	w.publish(w.sample("1.0", 1))
	junk := filepath.Join(w.repo, "targets/test-board/1.0", tempPrefix+"123")
	if err := os.WriteFile(junk, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.open()
	if _, err := os.Stat(junk); err == nil {
		t.Error("the file of an interrupted publish is still there")
	}
	w.box(1).want(w, "1.0")
}

// What Delta packs is what the updater's side of package delta reads.
func TestDeltaPack(t *testing.T) {
	w := newWorld(t)
	rel := w.sample("1.0", 1)
	var index, pack bytes.Buffer
	full, err := Delta(t.Context(), rel, &index, &pack)
	if err != nil {
		t.Fatal(err)
	}
	ix, err := delta.ReadIndex(index.Bytes())
	if err != nil || full <= 0 || full > int64(pack.Len()) {
		t.Errorf("index: %v; %d of %d bytes in a full download", err, full, pack.Len())
	}
	for name, want := range map[string]int64{delta.Root: rel.Root.Size(), delta.UKI: int64(len(rel.UKI))} {
		if o := ix.Object(name); o == nil || o.Size != want {
			t.Errorf("object %s: got %+v, want %d bytes", name, o, want)
		}
	}
}

// TestPatches: a release comes with patches from the newest before it, which
// boxes can use; one that cannot be made is left out.
func TestPatches(t *testing.T) {
	w := newWorld(t)
	publish := func(version string, counter uint64) (notes []string) {
		r, err := Open(w.repo, w.folder(), Delta, w.now)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		r.WithPatches(2, func(format string, args ...any) { notes = append(notes, fmt.Sprintf(format, args...)) })
		rel := w.sample(version, counter)
		rel.Target.RootHash = strings.Repeat(fmt.Sprintf("%02x", counter), 32)
		if _, err := r.Add(t.Context(), rel); err != nil {
			t.Fatal(err)
		}
		if err := r.Commit(); err != nil {
			t.Fatal(err)
		}
		return notes
	}
	patches := func(version string) (names []string) {
		found, err := filepath.Glob(filepath.Join(w.repo, "targets", "test-board", version, "*.patch"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range found {
			_, name, _ = strings.Cut(filepath.Base(name), ".")
			names = append(names, name)
		}
		slices.Sort(names)
		return names
	}
	for i, version := range []string{"1.0", "1.1", "1.2"} {
		publish(version, uint64(i+1))
	}
	if diff := cmp.Diff([]string{"from-0101010101010101.patch", "from-0202020202020202.patch"}, patches("1.2")); diff != "" {
		t.Errorf("patches of 1.2 (-want +got):\n%s", diff)
	}
	w.box(1).want(w, "1.0", "1.1", "1.2") // and all files of each are as signed

	damaged, err := filepath.Glob(filepath.Join(w.repo, "targets", "test-board", "1.2", "*.root.index"))
	if err != nil || len(damaged) != 1 {
		t.Fatal(damaged, err)
	}
	if err := os.WriteFile(damaged[0], []byte("something else"), 0o644); err != nil {
		t.Fatal(err)
	}
	notes := publish("1.3", 4)
	if diff := cmp.Diff([]string{"from-0202020202020202.patch"}, patches("1.3")); diff != "" {
		t.Errorf("patches of 1.3 (-want +got):\n%s", diff)
	}
	if len(notes) != 2 || !strings.Contains(notes[0], "no patch from 1.2") {
		t.Errorf("notes are %q, want one that there is no patch from 1.2", notes)
	}
}

// TestTidy: of many releases the newest stay, and the steps that a box far
// behind takes to them; only the newest keep patches.
func TestTidy(t *testing.T) {
	w := newWorld(t)
	other := w.sample("0.1", 1)
	other.Target.Board = "other-board"
	w.publish(other)
	for n := uint64(1); n <= 12; n++ {
		rel := w.sample(fmt.Sprint("1.", n), n)
		rel.Target.RootHash = fmt.Sprintf("%064x", n)
		switch {
		case n == 3:
			rel.Target.Downgrade = true
		case n >= 9:
			rel.Target.MinCounter = 5 // a box below goes to 1.8 first
		case n == 6:
			rel.Target.MinCounter = 6 // nobody's way
		}
		r, err := Open(w.repo, w.folder(), plain, w.now)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Add(t.Context(), rel); err != nil {
			t.Fatal(err)
		}
		for _, from := range []string{"0a", "0b"} { // as WithPatches leaves them
			name := rel.Target.Path(release.TargetPatch(strings.Repeat(from, 32)))
			file, err := r.files.store(name, func(w io.Writer) error { _, err := io.WriteString(w, from); return err })
			if err != nil {
				t.Fatal(err)
			}
			r.targets.Signed.Targets[name] = &metadata.TargetFiles{Length: file.length, Hashes: metadata.Hashes{"sha256": file.sha256}, Path: name}
		}
		expired, err := r.Tidy(4)
		if err == nil {
			err = r.Commit()
		}
		if err != nil {
			t.Fatal(err)
		}
		if n == 11 && (len(expired) != 1 || expired[0].Version != "1.7") {
			t.Errorf("with 1.11: got %v expired, want 1.7", expired)
		}
		r.Close()
	}
	w.box(1).want(w, "0.1", "1.3", "1.8", "1.9", "1.10", "1.11", "1.12")
	r := w.open()
	all, err := r.Releases()
	if err != nil {
		t.Fatal(err)
	}
	for i, e := range all[1:] {
		patches := 0
		for file := range e.Files {
			if release.IsPatch(file) {
				patches++
			}
		}
		if want := map[bool]int{true: 2, false: 0}[i < patched]; patches != want {
			t.Errorf("%s has %d patches, want %d", e.Version, patches, want)
		}
	}
	if expired, err := r.Tidy(1); err != nil || len(expired) > 0 || r.changed {
		t.Errorf("without a release added: got %v expired, %v", expired, err)
	}
	if found, _ := filepath.Glob(filepath.Join(w.repo, "targets/test-board/1.1/*")); len(found) > 0 {
		t.Errorf("files of what expired are still there: %v", found)
	}
}

// TestOnTheWay: no box is left without a next step by what expires.
func TestOnTheWay(t *testing.T) {
	type step struct{ counter, min uint64 }
	for _, c := range []struct {
		name     string
		releases []step // newest first
		want     []uint64
	}{
		{"nothing", nil, nil},
		{"straight", []step{{3, 0}, {2, 0}}, []uint64{3}},
		{"by steps", []step{{9, 8}, {8, 5}, {7, 5}, {6, 0}}, []uint64{6, 8, 9}},
		{"the first is for boxes that came with what was never published", []step{{30, 20}, {20, 10}, {10, 5}}, []uint64{10, 20, 30}},
		{"a step was taken back", []step{{30, 20}, {25, 20}, {10, 0}}, []uint64{10, 30}},
		{"one that nobody gets", []step{{5, 9}}, nil},
	} {
		var all []Entry
		for _, s := range c.releases {
			all = append(all, Entry{Target: release.Target{Version: fmt.Sprint(s.counter), Counter: s.counter, MinCounter: s.min}})
		}
		want := map[string]bool{}
		for _, n := range c.want {
			want[fmt.Sprint(n)] = true
		}
		if diff := cmp.Diff(want, onTheWay(all)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

// TestMoreThanBoxesRead: a list of targets that no box would read is not
// published, and boxes go on with the one before.
func TestMoreThanBoxesRead(t *testing.T) {
	w := newWorld(t)
	w.publish(w.sample("1.0", 1))
	r := w.open()
	if _, err := r.Add(t.Context(), w.sample("1.1", 2)); err != nil {
		t.Fatal(err)
	}
	for n := range release.MaxMetadata / 100 {
		r.targets.Signed.Targets[fmt.Sprintf("test-board/0.%d/sbom.spdx.json", n)] = &metadata.TargetFiles{Length: 1, Hashes: metadata.Hashes{"sha256": make([]byte, 32)}}
	}
	if err := r.Commit(); err == nil || !strings.Contains(err.Error(), "keep fewer releases with --keep") {
		t.Errorf("got %v, want it refused", err)
	}
	w.box(1).want(w, "1.0")
}
