package delta_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/waysideos/wayside/image/delta"
)

// memoryDir names, in the process that TestMemory starts, the folder of its
// files.
const memoryDir = "WAYSIDE_DELTA_MEMORY_DIR"

// memoryPatch names the file of a patch that is made use of, if any.
const memoryPatch = "WAYSIDE_DELTA_MEMORY_PATCH"

// A box has 128 MiB for the whole of the updater. The release is one of
// which every segment is changed a little, which takes the most.
func TestMemory(t *testing.T) {
	if dir := os.Getenv(memoryDir); dir != "" {
		updateFromFiles(t, dir)
		return
	}
	dir := t.TempDir()
	makeFiles(t, dir)
	for _, patch := range []string{"", "patch"} {
		cmd := exec.Command(os.Args[0], "-test.run=^TestMemory$", "-test.v")
		cmd.Env = append(os.Environ(), memoryDir+"="+dir, memoryPatch+"="+patch)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		t.Logf("%s", out)
	}
}

const memorySize = 64 << 20

// resident is the most memory that this process ever had. The rusage of a
// child would not do: it counts what its parent had when it forked.
func resident(t *testing.T) (mib int) {
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(data), "VmHWM:")
	kib, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	return kib >> 10
}

func makeFiles(t *testing.T, dir string) {
	rnd := seeded(30)
	base := program(rnd, 1<<20)
	var old, new []byte
	for range memorySize >> 20 {
		for range 500 {
			base[rnd.IntN(len(base))] ^= 1
		}
		old = append(old, base...)
		changed := bytes.Clone(base)
		for at := rnd.IntN(1 << 16); at < len(changed); at += 1 << 16 {
			changed[at]++
		}
		new = append(new, changed...)
	}
	var index, pack bytes.Buffer
	if _, err := delta.Write(ctx, &index, &pack, content(delta.Root, new)); err != nil {
		t.Fatal(err)
	}
	var patch bytes.Buffer
	held := []delta.Source{{Name: delta.Root, Content: bytes.NewReader(old), Size: memorySize}}
	if err := delta.WritePatch(ctx, &patch, index.Bytes(), held, content(delta.Root, new)); err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"patch": patch.Bytes(), "old": old, "new": new, "index": index.Bytes(), "pack": pack.Bytes(), "slot": nil} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func updateFromFiles(t *testing.T, dir string) {
	open := func(name string) *os.File {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	data, err := os.ReadFile(filepath.Join(dir, "index"))
	if err != nil {
		t.Fatal(err)
	}
	x, err := delta.ReadIndex(data)
	if err != nil {
		t.Fatal(err)
	}
	slot := open("slot")
	p := &delta.Patcher{
		Index: x, Pack: delta.FilePack(open("pack")), Have: []delta.Source{{Name: delta.Root, Content: open("old"), Size: memorySize}},
		Target: map[string]delta.File{delta.Root: slot},
	}
	if name := os.Getenv(memoryPatch); name != "" {
		p.Patch = &delta.PatchFile{Read: func(context.Context) ([]byte, error) { return os.ReadFile(filepath.Join(dir, name)) }}
	}
	plan, err := p.Plan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if plan.Whole {
		t.Fatal("a full download is no test of the memory")
	}
	if err := p.Apply(t.Context(), plan, nil); err != nil {
		t.Fatal(err)
	}
	used := resident(t)
	t.Logf("%d MiB resident at most", used)
	if used > 96 {
		t.Errorf("%d MiB resident at most, want 96", used)
	}
	want, got := open("new"), slot
	a, b := make([]byte, 1<<20), make([]byte, 1<<20)
	for off := int64(0); off < memorySize; off += 1 << 20 {
		want.ReadAt(a, off)
		got.ReadAt(b, off)
		if !bytes.Equal(a, b) {
			t.Fatalf("the MiB at %d is wrong", off)
		}
	}
}
