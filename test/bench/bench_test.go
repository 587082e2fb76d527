package bench

import (
	"context"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sys/unix"

	"github.com/waysideos/wayside/test/harness"
)

var (
	full  = flag.Bool("bench-broker", false, "measure everything and write the page")
	quick = flag.Bool("bench-quick", false, "with -bench-broker: less data where that says as much")
	page  = flag.String("bench-page", "../../docs/benchmarks.md", "the page to write")
	only  = flag.String("bench-only", "", "only measurements whose names contain this; the page is not written")
)

// TestBench measures the broker beside its peers and controls. Without
// -bench-broker it only sees that all of that works, with hardly any data.
func TestBench(t *testing.T) {
	b := &bench{t: t, root: t, rounds: 1, sizes: sizes{8_000_000, 2_000_000, 0.2}, page: &report{}}
	if *full {
		b.rounds, b.sizes = 3, sizes{600_000_000, 250_000_000, 5}
	}
	b.long = b.sizes
	if *full && *quick {
		b.sizes, b.long.seconds = sizes{128_000_000, 64_000_000, 2}, 3
	}
	b.kafka = *full
	begin := time.Now()
	b.run()
	b.page.took = time.Since(begin)
	b.page.quick = *quick
	text := b.page.markdown()
	t.Log("\n" + text)
	if *full && *only == "" {
		if err := os.WriteFile(*page, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// bench is one run of all measurements.
type bench struct {
	t      *testing.T // of the measurement under way, which alone ends when it fails
	root   *testing.T // servers outlive a measurement
	rounds int
	sizes
	long  sizes // of measurements that say nothing when they are short
	kafka bool  // Apache Kafka takes part
	page  *report

	broker  string // the command's path
	topics  *int
	topic   string // see with
	servers map[string]*subject
}

// sizes are how much is measured in one go.
type sizes struct {
	bytes   int64   // with raw clients
	records int64   // bytes with others
	seconds float64 // where it is timed
}

// subject is a server that is measured.
type subject struct {
	*process
	name  string
	dir   string            // of its data
	plain bool              // a control
	topic map[string]string // configuration of its topics
	acks  int               // 0: as the measurement asks
}

// Names of subjects, as they stand in the page.
const (
	ours        = "wayside"
	kafka       = "Kafka"
	kafkaFlush  = "Kafka, flush.messages=1"
	kfakeMemory = "kfake, memory"
	kfakeDir    = "kfake, DataDir"
	kfakeSync   = "kfake, SyncWrites"
	kfakeVoid   = "kfake that keeps nothing"
	sinkWrite   = "sink"
	sinkBehind  = "sink, fdatasync behind"
	sinkSync    = "sink, fdatasync each"
	loopback    = "loopback"
	sendfile    = "sendfile"
	disk        = "the disk's own fdatasync" // a client only
)

func (b *bench) run() {
	b.t.Cleanup(removeGroups)
	b.servers, b.topics = map[string]*subject{}, new(int)
	b.broker = buildBroker(b.t)
	for _, m := range b.measurements() {
		if strings.Contains(m.name, *only) {
			b.root.Run(m.name, func(t *testing.T) { b.of(t).measure(m) })
			b.stopKfake()
		}
	}
	if strings.Contains("memory", *only) {
		b.root.Run("memory", func(t *testing.T) { b.of(t).memory() })
	}
	for _, s := range b.servers {
		s.stop()
	}
}

// of is b for one measurement.
func (b *bench) of(t *testing.T) *bench {
	c := *b
	c.t = t
	return &c
}

func buildBroker(t testing.TB) string {
	t.Helper()
	exe := filepath.Join(t.TempDir(), "waysided")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", exe, "github.com/waysideos/wayside/cmd/waysided")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build waysided: %v\n%s", err, out)
	}
	return exe
}

// unit is where the broker's environment on a box is written down.
const unit = "../../overlays/base/rootfs/usr/lib/wayside/units/broker.service"

// boxFiles is how many files that lets it open.
const boxFiles = 65536

// startBroker starts our broker with the environment that it has on a box.
func (b *bench) startBroker(dir string) *process {
	cmd := exec.Command(b.broker, "broker", "--data", dir, "--listen", "127.0.0.1:0")
	cmd.Env = os.Environ()
	text, err := os.ReadFile(unit)
	if err != nil {
		b.root.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if env, ok := strings.CutPrefix(strings.TrimSpace(line), "Environment="); ok {
			cmd.Env = append(cmd.Env, env)
		}
	}
	p := start(b.root, ours, cmd)
	unix.Prlimit(p.pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: boxFiles, Max: boxFiles}, nil)
	return p
}

// subject starts a server when it is first asked for.
func (b *bench) subject(name string) *subject {
	if s := b.servers[name]; s != nil {
		return s
	}
	s := &subject{name: name, dir: b.root.TempDir()}
	switch name {
	case ours:
		s.process = b.startBroker(s.dir)
	case kafka:
		begin := time.Now()
		k := harness.StartKafka(b.root)
		s.process = &process{name: name, addr: k.HostAddr, pid: k.PID(), took: time.Since(begin), stop: k.Stop}
		s.dir = k.Dir()
	case kafkaFlush:
		k := b.subject(kafka)
		s.process, s.dir, s.topic = k.process, k.dir, map[string]string{"flush.messages": "1"}
	case kfakeMemory, kfakeDir, kfakeSync, kfakeVoid:
		mode := map[string]string{kfakeMemory: "memory", kfakeDir: "dir", kfakeSync: "sync", kfakeVoid: "void"}[name]
		s.process = server(b.root, "kfake", job{Mode: mode, Dir: s.dir})
	case sinkWrite, sinkBehind, sinkSync, loopback:
		mode := map[string]string{sinkWrite: "write", sinkBehind: "behind", sinkSync: "sync", loopback: "discard"}[name]
		s.process, s.plain = server(b.root, "sink", job{Mode: mode, Dir: s.dir}), true
	case disk:
		s.process, s.plain = &process{pid: os.Getpid(), stop: func() {}}, true
	case sendfile:
		file := filepath.Join(s.dir, "file")
		if err := writeFile(file, b.bytes); err != nil {
			b.root.Fatal(err)
		}
		s.process, s.plain = server(b.root, "sendfile", job{Topic: file, Size: 1 << 20}), true
	}
	b.servers[name] = s
	return s
}

func writeFile(name string, n int64) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	b := make([]byte, 1<<20)
	for at := int64(0); at < n; at += int64(len(b)) {
		if _, err := f.WriteAt(b, at); err != nil {
			return err
		}
	}
	return f.Sync()
}

// stopKfake ends the fakes, which keep what they were sent in memory.
func (b *bench) stopKfake() {
	for _, name := range []string{kfakeMemory, kfakeDir, kfakeSync, kfakeVoid} {
		if s := b.servers[name]; s != nil {
			s.stop()
			delete(b.servers, name)
		}
	}
}

// admin calls f with a client of s.
func (b *bench) admin(s *subject, f func(context.Context, *kadm.Client) error) {
	b.t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.addr))
	if err != nil {
		b.t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if err := f(ctx, kadm.NewClient(cl)); err != nil {
		b.t.Fatalf("%s: %v", s.name, err)
	}
}

// newTopic makes a topic that no other measurement has.
func (b *bench) newTopic(s *subject, partitions int) string {
	if s.plain {
		return ""
	}
	*b.topics++
	topic := fmt.Sprintf("bench-%d", *b.topics)
	configs := map[string]*string{}
	for k, v := range s.topic {
		configs[k] = &v
	}
	b.admin(s, func(ctx context.Context, cl *kadm.Client) error {
		_, err := cl.CreateTopic(ctx, int32(partitions), 1, configs, topic)
		for err == nil && ctx.Err() == nil { // Kafka answers before its partitions do
			ends, err := cl.ListEndOffsets(ctx, topic)
			if err == nil && ends.Error() == nil {
				return nil
			}
			time.Sleep(50 * time.Millisecond)
		}
		return err
	})
	return topic
}

func (b *bench) deleteTopic(s *subject, topic string) {
	if topic == "" {
		return
	}
	b.admin(s, func(ctx context.Context, cl *kadm.Client) error {
		_, err := cl.DeleteTopic(ctx, topic)
		return err
	})
}

// cold drops a subject's files from the page cache.
func (b *bench) cold(s *subject) {
	unix.Sync()
	filepath.WalkDir(s.dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil
		}
		f, err := os.Open(name)
		if err != nil {
			return nil
		}
		defer f.Close()
		return unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
	})
}
