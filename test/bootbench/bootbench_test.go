// Package bootbench measures what a board's image takes of disk, time and
// memory from power-on to a broker that answers, and writes the page that says
// so.
package bootbench

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/waysideos/wayside/boards"
	"github.com/waysideos/wayside/qemu"
	"github.com/waysideos/wayside/test/harness"
)

var (
	bench = flag.Bool("bench-boot", false, "build and boot the boards, and write the page")
	page  = flag.String("bench-page", "../../docs/benchmarks-boot.md", "the page to write; what stands above its tables is kept")
	only  = flag.String("bench-boards", "", "boards to measure, with commas; all if empty")
)

// little is the memory, in MiB, that a whole box has to do with.
const little = 192

// changed is a file of one service; a line added to it stands for a change.
const changed = "services/console/judge.go"

// row is what was measured of one board. Times are seconds of guest time.
type row struct {
	board                    string
	image, packed, root, uki int64 // bytes
	build                    float64
	first, again             boot // the first boot lays out the disk
	idle, total              int64
	littleFree               int64 // bytes available on a box with little memory; 0 if it was not ready
	playable                 bool
}

// boot is one boot.
type boot struct {
	at    map[string]float64 // ends of phases, as time since the kernel's start
	spent spent
	lists map[string]string // of steps and modules
}

// phases in order; each is the first line of the console that matches.
var phases = []struct{ name, line string }{
	{"kernel", `phase initramfs`},
	{"early modules", `kernel modules loaded`},
	{"root verified", `root verified`},
	{"services begin", `service broker: starting`},
	{"broker answers", `service broker: running`},
	{"all ready", `wayside: ready`},
}

// beside is what goes on beside these, whenever it ends.
var beside = []struct{ name, line string }{
	{"drivers", `phase root(?s:.*?)kernel modules loaded`},
	{"address", `address by DHCP`},
}

var stamp = regexp.MustCompile(`\[ *(\d+\.\d+)\] wayside: `)

// read takes the phases out of what one boot printed.
func read(console string) (map[string]float64, error) {
	b := map[string]float64{}
	for _, p := range slices.Concat(phases, beside) {
		at := regexp.MustCompile(p.line).FindStringIndex(console)
		if at == nil {
			return nil, fmt.Errorf("the console has no line for %q", p.name)
		}
		line := console[strings.LastIndexByte(console[:at[1]], '\n')+1:]
		m := stamp.FindStringSubmatch(line)
		if m == nil {
			return nil, fmt.Errorf("the line for %q bears no time: %.80q", p.name, line)
		}
		b[p.name], _ = strconv.ParseFloat(m[1], 64)
	}
	return b, nil
}

func TestRead(t *testing.T) {
	const text = "[    1.000000] wayside: phase initramfs\n[    2.500000] wayside: kernel modules loaded count=3\n" +
		"[    3.000000] wayside: root verified\n[    3.100000] wayside: phase root\n[    4.000000] wayside: kernel modules loaded count=5\n" +
		"[    4.500000] wayside: service broker: starting\n[    4.600000] wayside: address by DHCP interface=eth0\n[    5.000000] wayside: service broker: running\n[    6.000000] wayside: ready uptime=6.0s\n"
	b, err := read(text)
	if err != nil {
		t.Fatal(err)
	}
	if b["drivers"] != 4 || b["early modules"] != 2.5 || b["all ready"] != 6 {
		t.Errorf("got %v", b)
	}
	if _, err := read(text[:200]); err == nil {
		t.Error("a boot that never ended is read")
	}
}

func TestBenchBoot(t *testing.T) {
	if !*bench {
		t.Skip("measures for some minutes; make bench-boot")
	}
	harness.NeedVM(t)
	all, err := boards.All()
	if err != nil {
		t.Fatal(err)
	}
	var rows []row
	for _, b := range all {
		if *only != "" && !strings.Contains(","+*only+",", ","+b.Slug+",") {
			continue
		}
		rows = append(rows, measure(t, b))
	}
	writePage(t, rows)
}

func measure(t *testing.T, b boards.Board) row {
	t.Helper()
	img := harness.BuildBoard(t, b.Slug, "", "--compress")
	r := row{board: b.Slug, image: img.Stored, playable: b.QEMU != nil}
	packed, err := os.Stat(img.Path + ".zst")
	if err != nil {
		t.Fatal(err)
	}
	r.packed = packed.Size()
	r.build, r.root, r.uki = rebuild(t, b.Slug)
	if !r.playable {
		return r
	}
	box := harness.Boot(t, img, harness.AllProcessors)
	box.WaitReady()
	box.Expect(harness.BootTime, "spent on modules")
	r.first = phasesOf(t, box.Console().Text())
	s := box.Look()
	r.idle, r.total = s.Box.Memory.Total-s.Box.Memory.Available, s.Box.Memory.Total
	box.PowerOff()
	before := len(box.Console().Text())
	box.PowerOn()
	box.WaitReady()
	box.Expect(harness.BootTime, "spent on modules")
	r.again = phasesOf(t, box.Console().Text()[before:])
	box.PowerOff()

	small := harness.Boot(t, img, harness.AllProcessors, func(c *qemu.Config) { c.MemoryMiB = little })
	small.WaitReady()
	s = small.Look()
	r.littleFree = s.Box.Memory.Available
	small.PowerOff()
	return r
}

func phasesOf(t *testing.T, console string) boot {
	t.Helper()
	var b boot
	var err error
	if b.at, err = read(console); err != nil {
		t.Fatal(err)
	}
	if b.spent, b.lists, err = readSpent(console); err != nil {
		t.Fatal(err)
	}
	return b
}

// rebuild builds a copy of the source, changes a line and builds again.
func rebuild(t *testing.T, board string) (seconds float64, root, uki int64) {
	t.Helper()
	source, dir, out := harness.Source(t), t.TempDir(), t.TempDir()
	for _, name := range []string{"go.mod", "go.sum", "cmd", "services", "init", "image", "overlays", "boards", "qemu"} {
		harness.Tool(t, "cp", "-r", filepath.Join(source, name), dir)
	}
	run := func() (seconds float64, root, uki int64) {
		cmd := harness.Command(t, "build", "--json", "--board", board, "--source", dir, "-o", out)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		text, err := cmd.Output()
		if err != nil {
			t.Fatalf("wayside build: %v\n%s", err, stderr.Bytes())
		}
		var res struct {
			Seconds float64 `json:"seconds"`
			Root    int64   `json:"root_bytes"`
			UKI     int64   `json:"uki_bytes"`
		}
		if err := json.Unmarshal(text, &res); err != nil {
			t.Fatal(err)
		}
		return res.Seconds, res.Root, res.UKI
	}
	run()
	file := filepath.Join(dir, changed)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text = append(text, "\n// Changed is what a build after a change has to compile.\nfunc Changed() int { return 1 }\n"...)
	if err := os.WriteFile(file, text, 0o644); err != nil {
		t.Fatal(err)
	}
	return run()
}

// writePage puts the tables below the page's mark.
func writePage(t *testing.T, rows []row) {
	t.Helper()
	const mark = "<!-- below: written by make bench-boot -->\n"
	old, err := os.ReadFile(*page)
	if err != nil {
		t.Fatal(err)
	}
	head, _, found := strings.Cut(string(old), mark)
	if !found {
		t.Fatalf("%s has no line %q", *page, mark)
	}
	var w strings.Builder
	w.WriteString(head + mark)
	fmt.Fprintf(&w, "\nMeasured with %s.\n", qemuVersion())
	sizes(&w, rows)
	times(&w, rows)
	split(&w, rows)
	if err := os.WriteFile(*page, []byte(w.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

func qemuVersion() string {
	out, _ := exec.Command("qemu-system-x86_64", "--version").Output()
	first, _, _ := strings.Cut(string(out), "\n")
	return first
}

func mb(n int64) string  { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }
func mib(n int64) string { return fmt.Sprintf("%.0f MiB", float64(n)/(1<<20)) }

func sizes(w *strings.Builder, rows []row) {
	fmt.Fprintf(w, "\n## Size, memory, build\n\n| board | image, blocks in use | `.img.zst` | root with hash tree | kernel image | idle memory of 512 MiB | free of %d MiB | build after a change |\n|---|---|---|---|---|---|---|---|\n", little)
	for _, r := range rows {
		idle, free := "not played by QEMU", ""
		if r.playable {
			idle, free = mib(r.idle)+" of "+mib(r.total), mib(r.littleFree)
		}
		fmt.Fprintf(w, "| %s | %s | **%s** | %s | %s | %s | %s | %.1f s |\n", r.board, mb(r.image), mb(r.packed), mb(r.root), mb(r.uki), idle, free, r.build)
	}
}

func times(w *strings.Builder, rows []row) {
	w.WriteString("\n## Boot by phase\n\nSeconds of guest time, each phase by itself. The last columns count from the kernel's hand-over to init: until the broker answers, until all drivers are loaded, and until the network has given an address; the latter two go on beside the phases.\n\n| board | boot |")
	for _, p := range phases {
		fmt.Fprintf(w, " %s |", p.name)
	}
	w.WriteString(" **init to broker** |")
	for _, p := range beside {
		fmt.Fprintf(w, " %s |", p.name)
	}
	w.WriteString("\n|---|---|" + strings.Repeat("---|", len(phases)+1+len(beside)) + "\n")
	for _, r := range rows {
		for _, b := range []struct {
			name string
			boot
		}{{"first", r.first}, {"second", r.again}} {
			if b.at == nil {
				continue
			}
			fmt.Fprintf(w, "| %s | %s |", r.board, b.name)
			was := 0.0
			for _, p := range phases {
				fmt.Fprintf(w, " %.2f |", b.at[p.name]-was)
				was = b.at[p.name]
			}
			fmt.Fprintf(w, " **%.2f** |", b.at["broker answers"]-b.at["kernel"])
			for _, p := range beside {
				fmt.Fprintf(w, " %.2f |", b.at[p.name]-b.at["kernel"])
			}
			w.WriteString("\n")
		}
	}
}
