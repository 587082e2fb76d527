package catalog_test

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"hash/crc32"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"encoding/binary"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/broker/catalog"
	"github.com/waysideos/wayside/services/broker/meta"
	"github.com/waysideos/wayside/services/broker/store"
	"github.com/waysideos/wayside/services/vfs"
)

var (
	many     = flag.Int("open.many", 200, "partitions of TestOpenMany")
	manySize = flag.Int("open.bytes", 2000, "bytes in each partition of TestOpenMany")
	manyDir  = flag.String("open.dir", "", "directory of TestOpenMany; default a temporary one")
)

// TestOpenMany measures, in processes of their own, how long many partitions
// take to open and to answer the first produce, and in how much memory: after
// a clean stop and after kill -9, from the page cache and, by root, without
// it. Timings are only reported, but for the full size:
//
//	go test ./services/broker/catalog -run TestOpenMany -v -open.many 10000
func TestOpenMany(t *testing.T) {
	if role := os.Getenv("OPEN_MANY"); role != "" {
		openManyRole(t, role)
		return
	}
	base := *manyDir
	if base == "" {
		base = t.TempDir()
	}
	for _, stop := range []string{"clean", "kill"} {
		dir := filepath.Join(base, stop)
		if err := os.MkdirAll(dir, 0o750); err != nil {
			t.Fatal(err)
		}
		if _, err := child(t, "fill-"+stop, dir); err != nil && stop == "clean" {
			t.Fatal(err)
		}
		if stop == "kill" {
			copyTree(t, dir, dir+"2") // opening leaves a clean one
		}
		report(t, stop+", warm", dir)
		if dropCaches() {
			if stop == "kill" {
				dir += "2"
				dropCaches()
			}
			report(t, stop+", cold", dir)
		}
	}
}

type opened struct {
	// From the start of the process's work: ready, first produce answered, the
	// last partition recovered.
	Open, First, All time.Duration
	Round            time.Duration // one round of retention
	Before, After    int64         // resident bytes
	Peak             int64
	Goroutines       int
}

func report(t *testing.T, what, dir string) {
	t.Helper()
	out, err := child(t, "open", dir)
	if err != nil {
		t.Fatalf("%s: %v\n%s", what, err, out)
	}
	var o opened
	for line := range strings.Lines(out) {
		if rest, ok := strings.CutPrefix(line, "OPENED "); ok {
			if err := json.Unmarshal([]byte(rest), &o); err != nil {
				t.Fatal(err)
			}
		}
	}
	if o.First == 0 {
		t.Fatalf("%s: no figures:\n%s", what, out)
	}
	t.Logf("%d partitions, %s: open after %v, first produce answered after %v, all recovered after %v; a round of retention %v; memory %.1f MB more (%.0f bytes a partition), peak %.1f MB, %d goroutines",
		*many, what, o.Open.Round(time.Millisecond), o.First.Round(time.Millisecond), o.All.Round(time.Millisecond), o.Round.Round(100*time.Microsecond), float64(o.After-o.Before)/1e6,
		float64(o.After-o.Before)/float64(*many), float64(o.Peak)/1e6, o.Goroutines)
	if *many < 10000 {
		return
	}
	limit := map[string]time.Duration{"clean, warm": 2 * time.Second, "kill, warm": time.Second}[what]
	if limit == 0 {
		limit = 3 * time.Second
	}
	if o.First > limit || o.After-o.Before > 40e6 || o.Peak > 64e6 {
		t.Errorf("%s: over the gates: first produce answered within %v, 40 MB more, 64 MB at most", what, limit)
	}
}

func child(t *testing.T, role, dir string) (string, error) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestOpenMany$", "-test.timeout=10m", "-open.many="+strconv.Itoa(*many), "-open.bytes="+strconv.Itoa(*manySize))
	cmd.Env = append(os.Environ(), "OPEN_MANY="+role+":"+dir, "GOMEMLIMIT=108MiB")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func openManyRole(t *testing.T, role string) {
	role, dir, _ := strings.Cut(role, ":")
	debug.FreeOSMemory()
	before, _ := memory(t)
	begin := time.Now()
	fsys := vfs.OS(dir)
	st, err := meta.Open(fsys, "meta")
	if err != nil {
		t.Fatal(err)
	}
	c, err := catalog.Open(fsys, st, catalog.Options{Syncer: store.NewSyncer(16, nil), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if how, ok := strings.CutPrefix(role, "fill-"); ok {
		fill(t, c)
		if how == "kill" {
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		st.Close()
		return
	}
	var o opened
	o.Open, o.Before = time.Since(begin), before
	topic := c.Get("many")
	l := topic.Partitions[len(topic.Partitions)-1].Log
	a, err := l.Append(record(100), header(t, record(100)), true)
	if err == nil {
		err = l.Wait(t.Context(), a.Next)
	}
	if err != nil {
		t.Fatal(err)
	}
	o.First = time.Since(begin)
	for _, p := range topic.Partitions {
		if p.Log == nil || p.Log.Load() != nil {
			t.Fatal("a partition cannot be recovered")
		}
	}
	o.All = time.Since(begin)
	round := time.Now()
	c.Retain()
	o.Round = time.Since(round)
	_, o.Peak = memory(t)
	o.Goroutines = runtime.NumGoroutine()
	debug.FreeOSMemory()
	o.After, _ = memory(t)
	b, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Printf("OPENED %s\n", b)
	for _, p := range topic.Partitions {
		if p.Err != nil || p.Log.Stats().End == 0 {
			t.Fatalf("a partition is not open or empty: %v", p.Err)
		}
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	st.Close()
}

func fill(t *testing.T, c *catalog.Catalog) {
	topic, err := c.Create("many", int32(*many), nil)
	if err != nil {
		t.Fatal(err)
	}
	for left := *manySize; left > 0; left -= 1000 {
		var last []store.Appended
		for _, p := range topic.Partitions {
			b := record(min(left, 1000))
			a, err := p.Log.Append(b, header(t, b), false)
			if err != nil {
				t.Fatal(err)
			}
			last = append(last, a)
		}
		for i, p := range topic.Partitions {
			if err := p.Log.Wait(t.Context(), last[i].Next); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// record is a batch of one record of about n bytes.
func record(n int) []byte {
	r := kmsg.Record{Key: []byte("k"), Value: make([]byte, n-70)}
	body := r.AppendTo(nil)
	r.Length = int32(len(body) - 1)
	if body = r.AppendTo(nil); r.Length > 63 {
		r.Length = int32(len(body) - 2)
		body = r.AppendTo(nil)
	}
	b := kmsg.RecordBatch{PartitionLeaderEpoch: -1, Magic: 2, ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1, NumRecords: 1, Records: body}
	b.Length = int32(len(b.AppendTo(nil)) - 12)
	out := b.AppendTo(nil)
	binary.BigEndian.PutUint32(out[17:], crc32.Checksum(out[21:], crc32.MakeTable(crc32.Castagnoli)))
	return out
}

func header(t *testing.T, b []byte) store.Header {
	h, err := store.Check(b)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// memory returns the resident size of this process and its peak.
func memory(t *testing.T) (now, peak int64) {
	f, err := os.Open("/proc/self/status")
	if err != nil {
		t.Skip("no /proc")
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		var kb int64
		if n, _ := fmt.Sscanf(s.Text(), "VmRSS: %d kB", &kb); n == 1 {
			now = kb << 10
		}
		if n, _ := fmt.Sscanf(s.Text(), "VmHWM: %d kB", &kb); n == 1 {
			peak = kb << 10
		}
	}
	return now, peak
}

// dropCaches empties the page cache, which root may; only at full size, since
// everything else on the machine pays for it.
func dropCaches() bool {
	if *many < 10000 {
		return false
	}
	syscall.Sync()
	return os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0) == nil
}

func copyTree(t *testing.T, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}
