// Package delta measures what an update fetches, with releases built from
// this tree, and writes the page that says so.
package delta

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/waysideos/wayside/image/delta"
)

// cost is what one update takes, in bytes.
type cost struct {
	board, name string
	full        int64 // root and UKI compressed as well as may be
	meta        int64 // signed metadata, see metadata
	pack        int64 // a full download of the pack
	// delta is everything fetched but the metadata, the index included, headers
	// of requests not.
	delta    int64
	requests int
	// The same with a patch for the pair of releases, itself included.
	patched       int64
	patchRequests int
	binary        int64 // zstd -9 --patch-from, root and UKI
}

// sides are the two releases of a measurement, as folders with root and UKI.
type sides struct{ old, new string }

// files of a release, by object.
var files = map[string]string{delta.Root: "root", delta.UKI: "uki.efi"}

func measure(t *testing.T, s sides) (c cost) {
	t.Helper()
	dir := t.TempDir()
	index, pack := create(t, dir, "index"), create(t, dir, "pack")
	stats, err := delta.Write(t.Context(), index, pack, contents(t, s.new)...)
	if err != nil {
		t.Fatal(err)
	}
	c.pack = stats.Full
	head, err := os.ReadFile(index.Name())
	if err != nil {
		t.Fatal(err)
	}
	var patch bytes.Buffer
	if err := delta.WritePatch(t.Context(), &patch, head, sources(t, s.old), contents(t, s.new)...); err != nil {
		t.Fatal(err)
	}
	c.delta, c.requests = take(t, s, head, pack, nil)
	c.patched, c.patchRequests = take(t, s, head, pack, patch.Bytes())
	for _, file := range files {
		from, to := filepath.Join(s.old, file), filepath.Join(s.new, file)
		c.binary += zstd(t, "-9", "--patch-from="+from, to)
	}
	return c
}

// compressed is the size of root and UKI compressed as well as may be.
func compressed(t *testing.T, dir string) (size int64) {
	for _, file := range files {
		size += zstd(t, "-19", filepath.Join(dir, file))
	}
	return size
}

// take updates a box and says what it fetched.
func take(t *testing.T, s sides, index []byte, pack io.ReaderAt, patch []byte) (fetched int64, requests int) {
	t.Helper()
	x, err := delta.ReadIndex(index)
	if err != nil {
		t.Fatal(err)
	}
	counted := &counter{Pack: delta.FilePack(pack)}
	p := &delta.Patcher{Index: x, Pack: counted, Have: sources(t, s.old), Target: map[string]delta.File{}}
	if patch != nil {
		p.Patch = &delta.PatchFile{Size: int64(len(patch)), Read: func(context.Context) ([]byte, error) { return patch, nil }}
	}
	for name := range files {
		p.Target[name] = create(t, t.TempDir(), name)
	}
	plan, err := p.Plan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Apply(t.Context(), plan, nil); err != nil {
		t.Fatal(err)
	}
	for name, file := range files {
		if got, want := read(t, p.Target[name].(*os.File).Name()), read(t, filepath.Join(s.new, file)); !bytes.Equal(got, want) {
			t.Fatalf("%s was not put together as it was built", name)
		}
	}
	return p.Fetched() + int64(len(index)), counted.requests
}

// counter counts requests.
type counter struct {
	delta.Pack
	requests int
}

func (c *counter) Range(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	c.requests++
	return c.Pack.Range(ctx, off, n)
}

func contents(t *testing.T, dir string) (all []delta.Content) {
	for _, s := range sources(t, dir) {
		all = append(all, delta.Content{Name: s.Name, Data: s.Content, Size: s.Size})
	}
	return all
}

func sources(t *testing.T, dir string) (all []delta.Source) {
	t.Helper()
	for _, name := range []string{delta.Root, delta.UKI} {
		data := read(t, filepath.Join(dir, files[name]))
		all = append(all, delta.Source{Name: name, Content: bytes.NewReader(data), Size: int64(len(data))})
	}
	return all
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func create(t *testing.T, dir, name string) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// zstd returns the size of what the zstd program makes.
func zstd(t *testing.T, args ...string) int64 {
	t.Helper()
	out := filepath.Join(t.TempDir(), "out.zst")
	cmd := exec.CommandContext(t.Context(), "zstd", append([]string{"-q", "-T2", "--long=27", "-o", out}, args...)...)
	if msg, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("zstd %v: %v\n%s", args, err, msg)
	}
	info, err := os.Stat(out)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// row is a line of the table.
func (c cost) row() string {
	share := func(n int64) string {
		return fmt.Sprintf("%.3f MB, %.2f %%", float64(n)/1e6, 100*float64(n)/float64(c.full))
	}
	return fmt.Sprintf("| %s | %s | %.2f MB | %.2f MB | **%s** | %.3f MB | %d | %s | %d | %s |", c.board, c.name,
		float64(c.full)/1e6, float64(c.pack)/1e6, share(c.patched+c.meta), float64(c.meta)/1e6, c.patchRequests, share(c.delta+c.meta), c.requests, share(c.binary))
}
