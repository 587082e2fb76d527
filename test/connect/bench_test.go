package connect

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

var bench = flag.Bool("bench-connect", false, "measure connectors beside their peers and write docs/benchmarks-connect.md")

const benchDocument = "../../docs/benchmarks-connect.md"

// needBench skips unless asked for: `make bench-connect` does.
func needBench(t *testing.T) {
	t.Helper()
	if !*bench {
		t.Skip("measures: run make bench-connect")
	}
}

// section puts a protocol's tables into the document, in the place of those
// of before.
func section(t *testing.T, name, text string) {
	t.Helper()
	begin, end := "<!-- begin "+name+" -->\n", "<!-- end "+name+" -->\n"
	old, err := os.ReadFile(benchDocument)
	if err != nil {
		t.Fatal(err)
	}
	text = begin + strings.TrimSpace(text) + fmt.Sprintf("\n\n%s, %d processors, %s.\n", time.Now().UTC().Format("2 January 2006"), runtime.NumCPU(), runtime.GOARCH) + end
	doc := string(old)
	if before, rest, found := strings.Cut(doc, begin); found {
		_, after, _ := strings.Cut(rest, end)
		doc = before + text + after
	} else {
		doc += "\n" + text
	}
	if err := os.WriteFile(benchDocument, []byte(doc), 0o644); err != nil {
		t.Fatal(err)
	}
}

// usage is what a process has used.
type usage struct {
	cpu  time.Duration
	rss  int64 // bytes, now
	anon int64 // of them not the program's file
	peak int64 // of rss
}

func usageOf(t testing.TB, pid int) (u usage) {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	for _, f := range fields[11:13] { // utime and stime, in hundredths of a second (proc(5))
		n, _ := strconv.Atoi(f)
		u.cpu += time.Duration(n) * 10 * time.Millisecond
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		words := strings.Fields(line)
		if len(words) < 2 {
			continue
		}
		n, _ := strconv.ParseInt(words[1], 10, 64)
		switch words[0] {
		case "VmRSS:":
			u.rss = n << 10
		case "RssAnon:":
			u.anon = n << 10
		case "VmHWM:":
			u.peak = n << 10
		}
	}
	return u
}

// medianOf is the median of what f says of each.
func medianOf[T any](of []T, f func(T) float64) float64 {
	var xs []float64
	for _, x := range of {
		xs = append(xs, f(x))
	}
	return median(xs)
}

func median(xs []float64) float64 {
	xs = slices.Sorted(slices.Values(xs))
	return xs[len(xs)/2]
}
