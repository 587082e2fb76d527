package debian_test

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/waysideos/wayside/image/debian"
	"github.com/waysideos/wayside/image/debian/debiantest"
)

type (
	httpWriter  = http.ResponseWriter
	httpRequest = http.Request
)

// bench is an archive with one locked package, tool 1.0 for amd64.
type bench struct {
	*debiantest.Archive
	dir  string
	lock debian.Lock
}

func newBench(t *testing.T, files ...debiantest.File) *bench {
	t.Helper()
	if files == nil {
		files = []debiantest.File{{Name: "./usr/bin/tool", Content: strings.Repeat("tool", 5000), Mode: 0o755}}
	}
	return benchOf(t, debiantest.Deb(t, "", files...))
}

func benchOf(t *testing.T, deb []byte) *bench {
	t.Helper()
	b := &bench{Archive: debiantest.New(t), dir: t.TempDir()}
	b.Add(debiantest.Package{Suite: stable, Arch: "amd64", Name: "tool", Version: "1.0", Deb: deb})
	b.Publish(t)
	var err error
	if b.lock, err = b.Open(t).Resolve(context.Background(), []string{"tool"}, "amd64"); err != nil {
		t.Fatal(err)
	}
	b.Requests()
	return b
}

func (b *bench) store(t *testing.T) *debian.Store {
	t.Helper()
	s, err := debian.OpenStore(debian.StoreConfig{Dir: b.dir, Lock: b.lock, Archive: func() (*debian.Archive, error) {
		a, err := debian.NewArchive(b.Config())
		if err == nil {
			debian.NoWait(a)
		}
		return a, err
	}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (b *bench) locked() debian.LockedPackage { return b.lock.Packages["amd64"]["tool"] }

// get fetches the package with a new store, as a new process would.
func (b *bench) get(t *testing.T) (debian.Package, error) {
	t.Helper()
	return b.store(t).Package(context.Background(), b.locked())
}

func (b *bench) mustGet(t *testing.T) debian.Package {
	t.Helper()
	p, err := b.get(t)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (b *bench) cached(sub, ext string) string {
	return filepath.Join(b.dir, sub, b.locked().SHA256+ext)
}

func debRequests(all []string) []string {
	return slices.DeleteFunc(all, func(r string) bool { return !strings.Contains(r, "/pool/") })
}

func wantTool(t *testing.T, p debian.Package) {
	t.Helper()
	data, err := fs.ReadFile(p.FS(), "usr/bin/tool")
	if err != nil || string(data) != strings.Repeat("tool", 5000) {
		t.Errorf("usr/bin/tool: got %d bytes, %v", len(data), err)
	}
}

func TestStoreColdAndWarm(t *testing.T) {
	b := newBench(t)
	wantTool(t, b.mustGet(t))
	if got := debRequests(b.Requests()); len(got) != 1 {
		t.Errorf("cold: got requests %v, want one for the package", got)
	}
	s, err := debian.OpenStore(debian.StoreConfig{Dir: b.dir}) // has nothing to fetch from
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		p, err := s.Package(context.Background(), b.locked())
		if err != nil {
			t.Fatal(err)
		}
		wantTool(t, p)
	}
	if got := b.Requests(); len(got) != 0 {
		t.Errorf("warm: got requests %v, want none", got)
	}
}

func TestStoreReadsIndexesOnce(t *testing.T) {
	b := newBench(t)
	b.Add(debiantest.Package{Suite: security, Arch: "amd64", Name: "more", Version: "2", Deb: debiantest.Deb(t, ".gz")})
	b.Publish(t)
	var err error
	if b.lock, err = b.Open(t).Resolve(context.Background(), []string{"tool", "more"}, "amd64"); err != nil {
		t.Fatal(err)
	}
	b.Requests()
	s := b.store(t)
	for _, p := range b.lock.All() {
		if _, err := s.Package(context.Background(), p); err != nil {
			t.Fatal(err)
		}
	}
	// Three suites, InRelease and Packages each, and the two packages.
	if got := b.Requests(); len(got) != 8 {
		t.Errorf("got %d requests, want 8: %q", len(got), got)
	}
}

func TestStoreProgress(t *testing.T) {
	b := newBench(t)
	var last int64
	s, err := debian.OpenStore(debian.StoreConfig{Dir: b.dir, Lock: b.lock,
		Archive: func() (*debian.Archive, error) { return debian.NewArchive(b.Config()) },
		Progress: func(p debian.LockedPackage, done int64) {
			if done <= last || done > p.Size {
				t.Errorf("progress went from %d to %d of %d", last, done, p.Size)
			}
			last = done
		}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Package(context.Background(), b.locked()); err != nil {
		t.Fatal(err)
	}
	if last != b.locked().Size {
		t.Errorf("progress ended at %d of %d", last, b.locked().Size)
	}
}

func TestStoreGone(t *testing.T) {
	for name, leave := range map[string]func(b *bench){
		"no index names it": func(b *bench) {
			b.Clear()
			b.Add(debiantest.Package{Suite: stable, Arch: "amd64", Name: "tool", Version: "1.1", Deb: []byte("x")})
			b.Publish(t)
		},
		"answers 404": func(b *bench) {
			path, _ := b.Get(t, "tool_1.0_amd64.deb")
			b.Put(path, nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			leave(b)
			_, err := b.get(t)
			var gone *debian.GoneError
			if !errors.As(err, &gone) {
				t.Fatalf("got %v, want a GoneError", err)
			}
			for _, want := range []string{"tool", "1.0", "`wayside lock`", name} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %q, want %q in it", err, want)
				}
			}
		})
	}
}

func TestStoreLockAndArchiveDisagree(t *testing.T) {
	b := newBench(t)
	b.Clear()
	b.Add(debiantest.Package{Suite: stable, Arch: "amd64", Name: "tool", Version: "1.0", Deb: []byte("something else")})
	b.Publish(t)
	_, err := b.get(t)
	var mismatch *debian.MismatchError
	if !errors.As(err, &mismatch) || mismatch.Locked != b.locked().SHA256 || mismatch.Archive == mismatch.Locked {
		t.Fatalf("got %v, want a MismatchError with both hashes", err)
	}
	if got := debRequests(b.Requests()); len(got) != 0 {
		t.Errorf("got requests %v, want none for the package", got)
	}
}

func TestStoreTamperedDeb(t *testing.T) {
	b := newBench(t)
	path, deb := b.Get(t, "tool_1.0_amd64.deb")
	deb = slices.Clone(deb)
	deb[len(deb)/2] ^= 1
	b.Put(path, deb)
	_, err := b.get(t)
	var wrong *debian.ContentError
	if !errors.As(err, &wrong) {
		t.Fatalf("got %v, want a ContentError", err)
	}
	for _, name := range []string{b.cached("debs", ".deb"), b.cached("debs", ".part"), b.cached("trees-1", "")} {
		if _, err := os.Stat(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s was kept: %v", name, err)
		}
	}
}

func TestStoreResumesTruncatedDownload(t *testing.T) {
	b := newBench(t)
	var once sync.Once
	b.Hook(func(w httpWriter, r *httpRequest, content []byte) bool {
		if !strings.Contains(r.URL.Path, "/pool/") {
			return false
		}
		cut := false
		once.Do(func() {
			cut = true
			w.Header().Set("Content-Length", "20000")
			w.Write(content[:9999])
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		})
		return cut
	})
	wantTool(t, b.mustGet(t))
	got := debRequests(b.Requests())
	if len(got) != 2 || !strings.HasSuffix(got[1], " bytes=9999-") {
		t.Errorf("got requests %q, want a second from byte 9999 on", got)
	}
}

// TestStoreResumesInterruptedRun finds half a download of an earlier process.
func TestStoreResumesInterruptedRun(t *testing.T) {
	for _, tc := range []struct {
		name     string
		part     func(deb []byte) []byte
		noRanges bool
		want     []string // ranges of the requests
	}{
		{name: "good half", part: func(d []byte) []byte { return d[:10000] }, want: []string{"bytes=10000-"}},
		{name: "nothing missing", part: func(d []byte) []byte { return d }},
		{name: "wrong half", part: func(d []byte) []byte { return make([]byte, 10000) }, want: []string{"bytes=10000-", ""}},
		{name: "too long", part: func(d []byte) []byte { return make([]byte, len(d)+1) }, want: []string{""}},
		{name: "server without ranges", part: func(d []byte) []byte { return d[:10000] }, noRanges: true, want: []string{"bytes=10000-"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newBench(t)
			b.store(t) // makes the folders
			_, deb := b.Get(t, "tool_1.0_amd64.deb")
			if err := os.WriteFile(b.cached("debs", ".part"), tc.part(deb), 0o644); err != nil {
				t.Fatal(err)
			}
			if tc.noRanges {
				b.Hook(func(w httpWriter, r *httpRequest, content []byte) bool {
					r.Header.Del("Range")
					return false
				})
			}
			wantTool(t, b.mustGet(t))
			var got []string
			for _, r := range debRequests(b.Requests()) {
				_, ranges, _ := strings.Cut(r, " ")
				got = append(got, ranges)
			}
			if d := cmp.Diff(tc.want, got); d != "" {
				t.Errorf("ranges (-want +got):\n%s", d)
			}
		})
	}
}

func TestStoreGivesUp(t *testing.T) {
	b := newBench(t)
	b.Hook(func(w httpWriter, r *httpRequest, _ []byte) bool {
		if !strings.Contains(r.URL.Path, "/pool/") {
			return false
		}
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	})
	_, err := b.get(t)
	if err == nil || !strings.Contains(err.Error(), "gave up after 5 attempts: 503") {
		t.Errorf("got %v", err)
	}
	if got := debRequests(b.Requests()); len(got) != 5 {
		t.Errorf("got %d requests, want 5", len(got))
	}
}

func TestStoreCancelled(t *testing.T) {
	b := newBench(t)
	ctx, cancel := context.WithCancel(context.Background())
	b.Hook(func(w httpWriter, r *httpRequest, _ []byte) bool {
		if !strings.Contains(r.URL.Path, "/pool/") {
			return false
		}
		cancel()
		<-r.Context().Done()
		return true
	})
	if _, err := b.store(t).Package(ctx, b.locked()); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}

func TestStoreConcurrent(t *testing.T) {
	b := newBench(t)
	stores := []*debian.Store{b.store(t), b.store(t)} // as two processes
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			p, err := stores[i%2].Package(context.Background(), b.locked())
			if err != nil {
				t.Error(err)
				return
			}
			wantTool(t, p)
		})
	}
	wg.Wait()
	if got := debRequests(b.Requests()); len(got) != 1 {
		t.Errorf("got requests %q, want one", got)
	}
}

// TestStoreRepairs damages the cache between two runs.
func TestStoreRepairs(t *testing.T) {
	overwrite := func(name string) func(*testing.T, *bench) {
		return func(t *testing.T, b *bench) {
			name := strings.ReplaceAll(name, "SHA", b.locked().SHA256)
			info, err := os.Stat(filepath.Join(b.dir, name))
			if err != nil {
				t.Fatal(err)
			}
			data := []byte(strings.Repeat("x", int(info.Size())))
			if err := os.WriteFile(filepath.Join(b.dir, name), data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	dropTree := func(t *testing.T, b *bench) {
		if err := os.RemoveAll(b.cached("trees-1", "")); err != nil {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct {
		name   string
		damage []func(*testing.T, *bench)
		bad    []string // set aside
		fetch  int      // requests for the package
	}{
		{"extracted file", []func(*testing.T, *bench){overwrite("trees-1/SHA/files/usr/bin/tool")}, []string{".tree"}, 0},
		{"index", []func(*testing.T, *bench){overwrite("trees-1/SHA/index.json")}, []string{".tree"}, 0},
		{"extracted file is gone", []func(*testing.T, *bench){func(t *testing.T, b *bench) {
			os.Remove(filepath.Join(b.cached("trees-1", ""), "files/usr/bin/tool"))
		}}, []string{".tree"}, 0},
		{"tree is gone", []func(*testing.T, *bench){dropTree}, nil, 0},
		{"deb", []func(*testing.T, *bench){dropTree, overwrite("debs/SHA.deb")}, []string{".deb"}, 1},
		{"short deb", []func(*testing.T, *bench){dropTree, func(t *testing.T, b *bench) {
			os.Truncate(b.cached("debs", ".deb"), 100)
		}}, []string{".deb"}, 1},
		{"both", []func(*testing.T, *bench){overwrite("debs/SHA.deb"), overwrite("trees-1/SHA/index.json")}, []string{".deb", ".tree"}, 1},
		{"an interrupted extraction beside", []func(*testing.T, *bench){dropTree, func(t *testing.T, b *bench) {
			os.MkdirAll(b.cached("trees-1", ".tmp")+"/files/usr/bin", 0o755)
			os.WriteFile(b.cached("trees-1", ".tmp")+"/files/usr/bin/tool", []byte("half"), 0o644)
		}}, nil, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newBench(t)
			b.mustGet(t)
			b.Requests()
			for _, damage := range tc.damage {
				damage(t, b)
			}
			wantTool(t, b.mustGet(t))
			if got := debRequests(b.Requests()); len(got) != tc.fetch {
				t.Errorf("got requests %q, want %d", got, tc.fetch)
			}
			var bad []string
			entries, _ := os.ReadDir(filepath.Join(b.dir, "bad"))
			for _, e := range entries {
				bad = append(bad, filepath.Ext(e.Name()))
			}
			if d := cmp.Diff(tc.bad, bad); d != "" {
				t.Errorf("set aside (-want +got):\n%s", d)
			}
			if _, err := os.Stat(b.cached("trees-1", ".tmp")); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the work folder is still there: %v", err)
			}
		})
	}
}

func TestPackageFS(t *testing.T) {
	b := newBench(t,
		debiantest.File{Name: "./"},
		debiantest.File{Name: "./usr/", Mode: 0o755},
		debiantest.File{Name: "./usr/share/doc/tool/copyright", Content: "MIT"},
		debiantest.File{Name: "./usr/bin/tool", Content: "tool", Mode: 0o4755},
		debiantest.File{Name: "./usr/bin/alias", Link: "../bin/tool"},
		debiantest.File{Name: "./bin", Link: "/usr/bin"},
	)
	p := b.mustGet(t)
	if err := fstest.TestFS(p.FS(), "usr/bin/tool", "usr/bin/alias", "bin", "usr/share/doc/tool/copyright"); err != nil {
		t.Error(err)
	}
	for name, want := range map[string]string{"usr/bin/tool": "tool", "usr/bin/alias": "tool", "bin/alias": "tool"} {
		if got, err := fs.ReadFile(p.FS(), name); err != nil || string(got) != want {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
		if got, err := os.ReadFile(p.Path(name)); err != nil || string(got) != want {
			t.Errorf("Path(%s): got %q, %v", name, got, err)
		}
	}
	info, err := fs.Stat(p.FS(), "usr/bin/tool")
	if err != nil || info.Mode() != 0o755 || info.ModTime().Unix() != 1_700_000_000 {
		t.Errorf("got %v, %v; want mode 0755 without setuid and the package's time", info, err)
	}
	if target, err := fs.ReadLink(p.FS(), "bin"); err != nil || target != "/usr/bin" {
		t.Errorf("got link %q, %v", target, err)
	}
	if text, err := p.Copyright(); err != nil || string(text) != "MIT" {
		t.Errorf("got copyright %q, %v", text, err)
	}
	for _, name := range []string{"usr/absent", "../../etc/passwd", "/etc/passwd"} {
		if _, err := os.Stat(p.Path(name)); !errors.Is(err, fs.ErrNotExist) || !strings.HasPrefix(p.Path(name), b.dir) {
			t.Errorf("Path(%q) = %q, %v; want a path in the cache that is not there", name, p.Path(name), err)
		}
	}
}
