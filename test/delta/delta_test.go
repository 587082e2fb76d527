package delta

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/waysideos/wayside/image/disk"
	"github.com/waysideos/wayside/image/layout"
	"github.com/waysideos/wayside/image/uki"
)

var (
	bench = flag.Bool("bench-delta", false, "build releases, measure what updates between them fetch, and write the page")
	only  = flag.String("bench-boards", "x86-64-uefi,arm64-uefi", "boards to measure")
	page  = flag.String("bench-page", "../../docs/benchmarks-delta.md", "the page to write; what stands above its table is kept")
)

// A change of the kind that a service sees most weeks: a function, a call, a
// text.
const (
	changedFile = "services/console/judge.go"
	changeAfter = "\ts.judgeReports(add)\n"
	changeCall  = "\tif n := s.countRestarts(); n > 9 {\n\t\tadd(Attention, \"Services were restarted %d times in all; look at their logs.\", n)\n\t}\n"
	changeFunc  = `
// countRestarts adds up how often services were restarted.
func (s *Snapshot) countRestarts() int {
	n := 0
	if s.Box != nil {
		for _, svc := range s.Box.Services {
			n += svc.Restarts
		}
	}
	return n
}
`
)

func TestBenchDelta(t *testing.T) {
	if !*bench {
		t.Skip("measures for ten minutes; make bench-delta")
	}
	wayside := filepath.Join(t.TempDir(), "wayside")
	run(t, "go", "build", "-o", wayside, "github.com/waysideos/wayside/cmd/wayside")
	source, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	var rows []cost
	for _, board := range strings.Split(*only, ",") {
		rows = append(rows, measureBoard(t, board, wayside, source)...)
	}
	writePage(t, rows)
}

// measureBoard builds releases of a board and takes a box from one to another.
func measureBoard(t *testing.T, board, wayside, source string) (rows []cost) {
	t.Helper()
	build := func(version, source string, more ...string) string {
		out := t.TempDir()
		run(t, wayside, append([]string{"build", "--board", board, "--version", version, "--source", source, "-o", out}, more...)...)
		unpack(t, filepath.Join(out, "wayside-"+board+"-"+version+".img"), out)
		return out
	}
	before := lockBefore(t, filepath.Join(source, "boards", "packages.lock.json"))
	base := build("1.0.0", source)
	full, meta := compressed(t, base), metadata(t, board, 40, 30) // 30 is what wayside publish offers unless told otherwise
	for _, update := range []struct{ name, old, new string }{
		{"version string", base, build("1.0.1", source)},
		{"one service", base, build("1.0.1", changed(t, source))},
		{"kernel security update", build("0.9.9", source, "--lock", before), base},
	} {
		c := measure(t, sides{update.old, update.new})
		c.board, c.name, c.full, c.meta = board, update.name, full, meta
		t.Log(c.row())
		rows = append(rows, c)
	}
	return rows
}

// lockBefore is the lock of today with the kernel of testdata.
func lockBefore(t *testing.T, today string) (name string) {
	t.Helper()
	type lock struct {
		Format   int                                   `json:"format"`
		Suite    string                                `json:"suite"`
		Date     string                                `json:"date"`
		Packages map[string]map[string]json.RawMessage `json:"packages"`
	}
	var now, before lock
	for name, l := range map[string]*lock{today: &now, "testdata/packages.lock.before.json": &before} {
		if err := json.Unmarshal(read(t, name), l); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	now.Date = before.Date
	for arch := range now.Packages {
		maps.Copy(now.Packages[arch], before.Packages[arch])
	}
	data, err := json.Marshal(now)
	if err != nil {
		t.Fatal(err)
	}
	name = filepath.Join(t.TempDir(), "packages.lock.json")
	put(t, name, bytes.NewReader(data))
	return name
}

// changed is a copy of the source with a change in one service.
func changed(t *testing.T, source string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"go.mod", "go.sum", "cmd", "services", "init", "image", "overlays", "boards", "qemu"} {
		run(t, "cp", "-r", filepath.Join(source, name), dir)
	}
	file := filepath.Join(dir, changedFile)
	text := string(read(t, file))
	if strings.Count(text, changeAfter) != 1 {
		t.Fatalf("%s is not what the change was written for", changedFile)
	}
	text = strings.Replace(text, changeAfter, changeAfter+changeCall, 1) + changeFunc
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// unpack takes root and UKI out of an image and removes it.
func unpack(t *testing.T, name, dir string) {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer os.Remove(name)
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	table, err := disk.ReadGPT(f, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	esp, slot := table.Partitions[0], table.Partitions[1]
	fat, err := disk.OpenFAT(io.NewSectionReader(f, esp.Start, esp.Size), esp.Size)
	if err != nil {
		t.Fatal(err)
	}
	list, err := fat.List()
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range list {
		if filepath.Dir(file.Path) != layout.ESPUKIDir {
			continue
		}
		pe, err := fat.ReadFile(file.Path)
		if err != nil {
			t.Fatal(err)
		}
		put(t, filepath.Join(dir, "uki.efi"), bytes.NewReader(pe))
		size := (dataBlocks(t, pe) + 1) * layout.VerityBlock
		put(t, filepath.Join(dir, "root"), io.NewSectionReader(f, slot.Start, size))
		return
	}
	t.Fatal("the image has no kernel image")
}

func dataBlocks(t *testing.T, pe []byte) int64 {
	t.Helper()
	sections, err := uki.Sections(pe)
	if err != nil {
		t.Fatal(err)
	}
	for word := range strings.FieldsSeq(string(uki.Find(sections, uki.Cmdline))) {
		if value, ok := strings.CutPrefix(word, layout.CmdDataBlocks+"="); ok {
			n, err := strconv.ParseInt(value, 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatal("the command line pins no root")
	return 0
}

func put(t *testing.T, name string, r io.Reader) {
	t.Helper()
	data, err := io.ReadAll(r)
	if err == nil {
		err = os.WriteFile(name, data, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = "../.."
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

const marker = "<!-- below: written by make bench-delta -->"

func writePage(t *testing.T, rows []cost) {
	t.Helper()
	above, _, found := strings.Cut(string(read(t, *page)), marker)
	if !found {
		t.Fatalf("%s has no line %q", *page, marker)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s%s\n\n", above, marker)
	b.WriteString("| board | what changed | full image, zstd -19 | full download of the pack | **fetched** | metadata of it | requests | without a patch | requests | zstd -9 --patch-from |\n|---|---|---|---|---|---|---|---|---|---|\n")
	for _, c := range rows {
		b.WriteString(c.row() + "\n")
	}
	if err := os.WriteFile(*page, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}
