package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

var content = bytes.Repeat([]byte("0123456789abcdef"), 20_000)

func serve(t *testing.T, h http.HandlerFunc) *HTTP {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	src := NewHTTP(s.URL+"/repo/", Options{Stall: 500 * time.Millisecond})
	t.Cleanup(src.Close)
	return src
}

func good(w http.ResponseWriter, r *http.Request) {
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
}

// noRanges is a server that knows no ranges.
func noRanges(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(content) }

func read(ctx context.Context, s Source, offset, length int64) ([]byte, error) {
	r, err := s.Open(ctx, "b/2.0/root.pack", offset, length)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

func TestRanges(t *testing.T) {
	size := int64(len(content))
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "b/2.0"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "b/2.0/root.pack"), content, 0o644); err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string]Source{"http": serve(t, good), "folder": Dir(dir), "http without ranges": serve(t, noRanges)} {
		for _, r := range [][2]int64{{0, Rest}, {0, 10}, {5, 1000}, {size - 1, 1}, {100, Rest}, {size - 3, Rest}} {
			got, err := read(t.Context(), s, r[0], r[1])
			end := size
			if r[1] != Rest {
				end = r[0] + r[1]
			}
			if name == "http without ranges" && r[1] != Rest {
				if KindOf(err) != NoRanges {
					t.Errorf("%s %v: got %v, want it said that there are no ranges", name, r, err)
				}
				continue
			}
			if err != nil || !bytes.Equal(got, content[r[0]:end]) {
				t.Errorf("%s %v: got %d bytes, %v", name, r, len(got), err)
			}
		}
	}
}

// TestBadServers: each kind of trouble is an error that says what it is.
func TestBadServers(t *testing.T) {
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
	}
	tests := []struct {
		name    string
		handler http.HandlerFunc
		kind    Kind
		words   string
	}{
		{"403", status(403), Refused, "403"},
		{"404", status(404), NotThere, "404"},
		{"416", status(416), Misbehaves, "416"},
		{"503", status(503), Busy, "503"},
		{"stalls before an answer", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, Unreachable, "timeout"},
		{"stalls in the middle", func(w http.ResponseWriter, r *http.Request) {
			partial(w, 100, 1100, "x")
			<-r.Context().Done()
		}, Unreachable, "nothing to speak of"},
		{"trickles", func(w http.ResponseWriter, r *http.Request) {
			partial(w, 100, 1100, "")
			for r.Context().Err() == nil {
				_, _ = w.Write([]byte("x"))
				w.(http.Flusher).Flush()
				time.Sleep(20 * time.Millisecond)
			}
		}, Unreachable, "nothing to speak of"},
		{"cut off", func(w http.ResponseWriter, _ *http.Request) {
			partial(w, 100, 1100, "x")
			panic(http.ErrAbortHandler)
		}, Unreachable, "too soon"},
		{"another range", func(w http.ResponseWriter, _ *http.Request) { partial(w, 99, 1099, strings.Repeat("x", 1000)) }, Misbehaves, "asked for"},
		{"a longer range", func(w http.ResponseWriter, _ *http.Request) { partial(w, 100, 2000, "x") }, Misbehaves, "asked for"},
		{"no range said", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(206) }, Misbehaves, "asked for"},
		{"redirected for ever", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path, 302) }, Unreachable, "redirected"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := read(t.Context(), serve(t, tt.handler), 100, 1000)
			if KindOf(err) != tt.kind || !strings.Contains(err.Error(), tt.words) || !strings.Contains(err.Error(), "root.pack") {
				t.Errorf("got %d bytes, %v; want %s, saying %q and the file", len(got), err, tt.kind, tt.words)
			}
		})
	}
	src := NewHTTP("http://127.0.0.1:1/", Options{})
	if _, err := read(t.Context(), src, 0, Rest); KindOf(err) != Unreachable {
		t.Errorf("nobody there: got %v", err)
	}
}

// partial begins an answer with bytes first up to end.
func partial(w http.ResponseWriter, first, end int, body string) {
	w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", first, end-1, len(content)))
	w.Header().Set("Content-Length", fmt.Sprint(end-first))
	w.WriteHeader(206)
	_, _ = io.WriteString(w, body)
	w.(http.Flusher).Flush()
}

var hasty = Patience{Tries: 4, Low: time.Millisecond, High: 2 * time.Millisecond}

// TestSteady: a server that cuts every answer off is read to the end all the
// same, one that always refuses is given up, and the caller may go at any time.
func TestSteady(t *testing.T) {
	var requests, got atomic.Int64
	flaky := serve(t, func(w http.ResponseWriter, r *http.Request) {
		n := requests.Add(1)
		switch n % 3 {
		case 0:
			w.WriteHeader(503)
		default:
			good(&cutter{ResponseWriter: w, left: 30_000}, r)
		}
	})
	s := &Steady{Source: flaky, Patience: hasty, Log: slog.New(slog.DiscardHandler), Got: func(n int) { got.Add(int64(n)) }}
	data, err := read(t.Context(), s, 16, Rest)
	if err != nil || !bytes.Equal(data, content[16:]) {
		t.Errorf("flaky: got %d bytes, %v", len(data), err)
	}
	if got.Load() != int64(len(content)-16) {
		t.Errorf("got %d bytes counted, want each once: %d", got.Load(), len(content)-16)
	}

	requests.Store(0)
	s.Source = serve(t, func(w http.ResponseWriter, _ *http.Request) { requests.Add(1); w.WriteHeader(403) })
	if _, err := read(t.Context(), s, 0, Rest); KindOf(err) != Refused || requests.Load() != 4 {
		t.Errorf("403: got %v after %d requests, want it given up after 4", err, requests.Load())
	}

	// A few bytes each time are no progress: they would hold up an update for
	// ever, and other sources with it.
	requests.Store(0)
	s.Source = serve(t, func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		rec := httptest.NewRecorder()
		good(rec, r)
		maps.Copy(w.Header(), rec.Header())
		w.WriteHeader(rec.Code)
		_, _ = w.Write(rec.Body.Next(100))
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	})
	if _, err := read(t.Context(), s, 0, Rest); KindOf(err) != Unreachable || requests.Load() != 4 {
		t.Errorf("a few bytes at a time: got %v after %d requests, want it given up after 4", err, requests.Load())
	}

	requests.Store(0)
	s.Source = serve(t, func(w http.ResponseWriter, _ *http.Request) { requests.Add(1); w.WriteHeader(404) })
	if _, err := read(t.Context(), s, 0, Rest); KindOf(err) != NotThere || requests.Load() != 1 {
		t.Errorf("404: got %v after %d requests, want 1", err, requests.Load())
	}

	ctx, cancel := context.WithCancel(t.Context())
	s.Patience = Patience{Tries: 1 << 30, Low: time.Hour, High: time.Hour}
	s.Source = serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(500)
		time.AfterFunc(10*time.Millisecond, cancel)
	})
	if _, err := read(ctx, s, 0, Rest); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v", err)
	}
}

// cutter ends an answer after so many bytes.
type cutter struct {
	http.ResponseWriter
	left int
}

func (c *cutter) Write(p []byte) (int, error) {
	if len(p) > c.left {
		_, _ = c.ResponseWriter.Write(p[:c.left])
		panic(http.ErrAbortHandler)
	}
	c.left -= len(p)
	return c.ResponseWriter.Write(p)
}

// TestFolder: a stick may hold anything.
func TestFolder(t *testing.T) {
	dir := t.TempDir()
	repo := filepath.Join(dir, "sda1", RepoDir)
	if err := os.MkdirAll(repo, 0o755); err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(dir, "secret")
	for _, err := range []error{
		os.WriteFile(secret, []byte("s"), 0o644), os.Symlink(secret, filepath.Join(repo, "link")),
		syscall.Mkfifo(filepath.Join(repo, "fifo"), 0o644), os.WriteFile(filepath.Join(repo, "short"), []byte("s"), 0o644),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if got := Sticks(dir); len(got) != 0 {
		t.Errorf("a folder without a repository: got %v", got)
	}
	if err := os.WriteFile(filepath.Join(repo, "timestamp.json"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	got := Sticks(dir)
	if len(got) != 1 || string(got[0]) != repo {
		t.Fatalf("got %v, want %s", got, repo)
	}
	for name, kind := range map[string]Kind{"link": Refused, "fifo": Refused, "none": NotThere, "../../secret": Refused, ".": Refused} {
		if _, err := got[0].Open(t.Context(), name, 0, Rest); KindOf(err) != kind {
			t.Errorf("%s: got %v, want %s", name, err, kind)
		}
	}
	if _, err := got[0].Open(t.Context(), "short", 0, 2); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("more than there is: got %v", err)
	}
	if _, err := ReadAll(t.Context(), got[0], "short", 0); KindOf(err) != Misbehaves {
		t.Errorf("longer than may be: got %v", err)
	}
	// A disk that fails while it is read, as one that is pulled out does.
	r, err := got[0].Open(t.Context(), "short", 0, Rest)
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	if _, err := r.Read(make([]byte, 1)); KindOf(err) != NotThere || !strings.Contains(err.Error(), "wayside-repo: read short") {
		t.Errorf("a disk that fails: got %v, want the source blamed", err)
	}
}

func FuzzContentRange(f *testing.F) {
	f.Add("bytes 0-1/2")
	f.Add("bytes 5-9/*")
	f.Fuzz(func(t *testing.T, s string) {
		first, last, total, err := contentRange(s)
		if err == nil && (first < 0 || last < first || total != -1 && last >= total) {
			t.Errorf("%q: got %d-%d/%d", s, first, last, total)
		}
	})
}
