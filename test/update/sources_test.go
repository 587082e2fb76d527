package update

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/waysideos/wayside/image/keys"
	"github.com/waysideos/wayside/image/layout"
	"github.com/waysideos/wayside/image/publish"
	target "github.com/waysideos/wayside/image/release"
	"github.com/waysideos/wayside/image/verity"
	"github.com/waysideos/wayside/test/harness"
)

// webSite serves a repository as well as it is told to.
type webSite struct {
	*httptest.Server
	mu    sync.Mutex
	dir   string
	spoil func(w http.ResponseWriter, r *http.Request, files http.Handler)
}

func serve(t *testing.T, dir string) *webSite {
	s := &webSite{dir: dir}
	s.Server = httptest.NewServer(s)
	s.Config.Handler = s
	t.Cleanup(s.Close)
	return s
}

func (s *webSite) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	files, spoil := http.FileServer(http.Dir(s.dir)), s.spoil
	s.mu.Unlock()
	if spoil != nil {
		spoil(w, r, files)
		return
	}
	files.ServeHTTP(w, r)
}

// as serves otherwise from now on; a dir of "" stays.
func (s *webSite) as(dir string, spoil func(w http.ResponseWriter, r *http.Request, files http.Handler)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.spoil = spoil; dir != "" {
		s.dir = dir
	}
}

// altered passes the files whose path holds part through change.
func altered(part string, change func([]byte) []byte) func(http.ResponseWriter, *http.Request, http.Handler) {
	return func(w http.ResponseWriter, r *http.Request, files http.Handler) {
		if !strings.Contains(r.URL.Path, part) {
			files.ServeHTTP(w, r)
			return
		}
		rec := httptest.NewRecorder()
		files.ServeHTTP(rec, r)
		for k, v := range rec.Header() {
			if k != "Content-Length" {
				w.Header()[k] = v
			}
		}
		w.WriteHeader(rec.Code)
		w.Write(change(rec.Body.Bytes()))
	}
}

func code(n int) func(http.ResponseWriter, *http.Request, http.Handler) {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) { http.Error(w, "no", n) }
}

func flip(b []byte) []byte {
	b = bytes.Clone(b)
	b[len(b)/2] ^= 1
	return b
}

// spoil leaves no piece of a pack whole: only some are fetched.
func spoil(b []byte) []byte {
	b = bytes.Clone(b)
	for i := 0; i < len(b); i += 512 {
		b[i] ^= 1
	}
	return b
}

func half(b []byte) []byte { return b[:len(b)/2] }

// rangeless ignores what part was asked for.
func rangeless(w http.ResponseWriter, r *http.Request, files http.Handler) {
	r.Header.Del("Range")
	files.ServeHTTP(w, r)
}

// folder publishes releases with the library, as no command would.
func folder(t *testing.T, keyDir string, now time.Time, rels ...publish.Release) string {
	t.Helper()
	f, err := keys.Open(keyDir, nil)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	plain := func(_ context.Context, rel publish.Release, index, pack io.Writer) (int64, error) {
		fmt.Fprint(index, "no index")
		return io.Copy(pack, rel.Root)
	}
	r, err := publish.Open(dir, f, plain, now)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for _, rel := range rels {
		if _, err := r.Add(t.Context(), rel); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Commit(); err != nil {
		t.Fatal(err)
	}
	return dir
}

// hollow is a signed release without sense but for what it claims.
func hollow(t *testing.T, board string, blocks int64) publish.Release {
	t.Helper()
	root, err := keys.UpdateRoot(keyDir(t))
	if err != nil {
		t.Fatal(err)
	}
	content := make([]byte, layout.VerityBlock)
	return publish.Release{
		Target: target.Target{Format: 1, Kind: target.KindRelease, Board: board, Arch: harness.Arch(t), Version: "0.9.0", Counter: 90,
			RootHash: strings.Repeat("0a", 32), DataBlocks: blocks, RootBytes: verity.Size(blocks), UKIBytes: 6},
		UKI: []byte("kernel"), Root: io.NewSectionReader(bytes.NewReader(content), 0, int64(len(content))),
		UpdateRoot: root, SBOM: []byte("{}"), Provenance: []byte("[]"),
	}
}

// badSources shows the box what is wrong with a source, one thing after the
// other, without a restart: each time it says what, and nothing changes.
func (u *updates) badSources(s *webSite, repo string) {
	t := u.t
	others := filepath.Join(t.TempDir(), "keys")
	if _, err := keys.Init(others, keys.Options{}, nil, time.Now()); err != nil {
		t.Fatal(err)
	}
	// Versions of metadata follow the clock of who publishes: each of these is
	// newer than the one before, and the repository newer than all.
	now := time.Now()
	expired := folder(t, keyDir(t), u.epoch().AddDate(0, 0, -60))
	otherBoard := folder(t, keyDir(t), now.Add(-3*time.Hour), hollow(t, "x86-64-uefi", 2))
	large := folder(t, keyDir(t), now.Add(-2*time.Hour), hollow(t, harness.Board, 400_000))
	begin := time.Now()
	for _, c := range []struct {
		name  string
		dir   string
		spoil func(http.ResponseWriter, *http.Request, http.Handler)
		verb  string
		want  string // of the box's word; "" for a verb that goes well
	}{
		{"expired", expired, nil, "refresh", "expired"},
		{"signed by others", folder(t, others, now), nil, "refresh", "not signed by enough"},
		{"another board's", otherBoard, nil, "refresh", ""},
		{"another board's, prepared", "", nil, "prepare", "no newer release"},
		{"slot too small", large, nil, "refresh", ""},
		{"slot too small, prepared", "", nil, "prepare", "does not fit"},
		{"403", repo, code(403), "refresh", "403 Forbidden"},
		{"503", "", code(503), "refresh", "503 Service Unavailable"},
		{"garbage", "", altered("timestamp", func([]byte) []byte { return []byte("<html>log in first</html>") }), "refresh", "timestamp metadata"},
		{"truncated", "", altered("timestamp", half), "refresh", "timestamp metadata"},
		{"a flipped bit", "", altered("snapshot.json", flip), "refresh", "snapshot metadata"},
		{"a flipped bit, further in", "", altered("targets.json", flip), "refresh", "targets metadata"},
		{"well", "", nil, "refresh", ""},
		{"replayed", large, nil, "refresh", "older than"},
		{"index truncated", repo, altered("root.index", half), "prepare", "index has another hash"},
		{"pieces altered", "", altered("root.pack", spoil), "prepare", "not what was signed"},
	} {
		s.as(c.dir, c.spoil)
		out, err := harness.Command(t, "box", "update", c.verb, "--box", "http://"+u.Addr("console"), "--token-file", u.token).CombinedOutput()
		if (err == nil) != (c.want == "") || !regexp.MustCompile(c.want).Match(out) {
			t.Errorf("%s: %s says %v, %s; want %q", c.name, c.verb, err, out, c.want)
			continue
		}
		st, err := u.state()
		if err != nil || st.Running != "0.1.0" || st.Prepared != nil || st.Trial != nil || !regexp.MustCompile(c.want).MatchString(st.Problem) {
			t.Errorf("%s: the box says %+v, %v; want it to say %q", c.name, st, err, c.want)
		}
	}
	s.as(repo, nil)
	t.Logf("the box withstood bad sources in %.0f s", time.Since(begin).Seconds())
}

// epoch is when the running release was built, as the box has it.
func (u *updates) epoch() time.Time {
	u.t.Helper()
	s, err := u.Status(u.t.Context())
	if err != nil {
		u.t.Fatal(err)
	}
	return time.Unix(s.Box.Epoch, 0)
}
