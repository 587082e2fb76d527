package files_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/connect"
	"github.com/waysideos/wayside/services/connect/connecttest"
	"github.com/waysideos/wayside/services/connect/files"
	"github.com/waysideos/wayside/services/site"
	"github.com/waysideos/wayside/services/vfs"
)

// folder is one that is watched.
type folder struct {
	t      *testing.T
	dir    string
	broker *connecttest.Broker
	disk   vfs.FS
	cfg    site.Files
	run    *connecttest.Running
}

func watch(t *testing.T, change func(*site.Files)) *folder {
	t.Helper()
	f := &folder{t: t, dir: t.TempDir(), broker: connecttest.NewBroker(t), disk: vfs.NewCrashable(4)}
	f.cfg = site.Files{Name: "in", Folder: f.dir, Match: "*", Every: "20ms", Settle: "100ms", Format: site.FilesLines, After: site.AfterKeep, Delimiter: ","}
	if change != nil {
		change(&f.cfg)
	}
	f.start()
	return f
}

func (f *folder) start() {
	f.t.Helper()
	c, err := files.New(f.cfg)
	if err != nil {
		f.t.Fatal(err)
	}
	records := site.DefaultRecords("in")
	records.Key = "{file}"
	f.run = connecttest.Start(f.t, f.broker.Addr, f.disk, "", connect.Instance{Connector: c, Name: "in", Protocol: "files", Records: records})
}

// add appends to a file, or makes it.
func (f *folder) add(name, text string) {
	f.t.Helper()
	out, err := os.OpenFile(filepath.Join(f.dir, name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		f.t.Fatal(err)
	}
	defer out.Close()
	if _, err := out.WriteString(text); err != nil {
		f.t.Fatal(err)
	}
}

func (f *folder) want(values ...string) {
	f.t.Helper()
	var got []string
	for _, r := range f.broker.Read("in", len(values)) {
		got = append(got, string(r.Value))
	}
	if diff := cmp.Diff(values, got); diff != "" {
		f.t.Fatalf("records (-want +got):\n%s", diff)
	}
}

// nothingMore wants no record beyond the first n.
func (f *folder) nothingMore(n int) {
	f.t.Helper()
	if got := f.broker.ReadFor("in", n+1, 500*time.Millisecond); len(got) > n {
		f.t.Errorf("got a record more: %q", got[n].Value)
	}
}

func TestAFileGrowsAndIsRotated(t *testing.T) {
	f := watch(t, func(c *site.Files) { c.Settle = "1h" })
	long := strings.Repeat("x", 1100) // enough to be known again
	f.add("log", long+"\ntwo\nthr")
	f.want(long, "two")
	f.add("log", "ee\n")
	f.want(long, "two", "three")
	f.run.Stop()
	f.add("log", "four\n")
	if err := os.Rename(filepath.Join(f.dir, "log"), filepath.Join(f.dir, "log.1")); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-time.Minute)
	if err := os.Chtimes(filepath.Join(f.dir, "log.1"), old, old); err != nil {
		t.Fatal(err)
	}
	f.add("log", "new one\n")
	f.start()
	f.want(long, "two", "three", "four", "new one")
	if err := os.WriteFile(filepath.Join(f.dir, "log"), []byte("cut\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	f.want(long, "two", "three", "four", "new one", "cut")
	f.nothingMore(6)
}

func TestTheLastLineWithoutAnEnd(t *testing.T) {
	f := watch(t, nil)
	f.add("a.txt", "one\nlast")
	f.want("one", "last")
	r := f.broker.Read("in", 2)[1]
	if string(r.Key) != "a.txt" || string(header(r, "file")) != "a.txt" || string(header(r, "offset")) != "4" {
		t.Errorf("key %q, headers %v", r.Key, r.Headers)
	}
}

func TestAfter(t *testing.T) {
	f := watch(t, func(c *site.Files) { c.After, c.Archive, c.Format = site.AfterMove, "done", site.FilesWhole })
	f.add("a", "same")
	f.want("same")
	moved := filepath.Join(f.dir, "done", "a")
	connecttest.Until(t, "the file to be moved", func() bool { _, err := os.Stat(moved); return err == nil })
	f.add("a", "same") // another file, and no rename of the first
	f.want("same", "same")
	connecttest.Until(t, "the second to be kept beside the first", func() bool { _, err := os.Stat(moved + ".1"); return err == nil })
}

// Exactly once: stopped, killed and without power in the middle of many
// files, each line becomes one record.
func TestOnceOverStopsAndPowerCuts(t *testing.T) {
	f := watch(t, func(c *site.Files) { c.Settle = "10ms" })
	total := 0
	for round := range 6 {
		for k := range 5 {
			var lines strings.Builder
			for range 2000 {
				fmt.Fprintf(&lines, "line %06d\n", total)
				total++
			}
			f.add(fmt.Sprintf("part-%d-%d", round, k), lines.String())
		}
		switch round % 3 {
		case 0:
			f.run.Stop()
		case 1:
			f.broker.CutPower()
			f.run.Stop()
			f.broker.Start()
		case 2:
			f.broker.Stop()
			f.broker.Start()
			continue
		}
		f.start()
	}
	seen := map[string]bool{}
	for _, r := range f.broker.Read("in", total) {
		if seen[string(r.Value)] {
			t.Fatalf("%q came twice", r.Value)
		}
		seen[string(r.Value)] = true
	}
	f.nothingMore(total)
}

func TestBadFilesStopNothing(t *testing.T) {
	f := watch(t, func(c *site.Files) { c.Format = site.FilesJSON })
	if err := os.Symlink("/etc/passwd", filepath.Join(f.dir, "link")); err != nil {
		t.Fatal(err)
	}
	f.add("bad", "{\"a\":1}\nno json\n")
	f.add("good", "{\"b\":2}\n")
	if got := f.broker.Read("in", 2); len(got) != 2 {
		t.Errorf("%d records", len(got))
	}
	letter := f.broker.Read("dead-letters.in", 1)[0]
	if string(letter.Value) != "no json\n" {
		t.Errorf("dead letter %q", letter.Value)
	}
	f.nothingMore(2)
}

func header(r *kgo.Record, key string) []byte {
	for _, h := range r.Headers {
		if h.Key == key {
			return h.Value
		}
	}
	return nil
}
