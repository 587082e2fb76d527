package soak

import (
	"bufio"
	"bytes"
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/waysideos/wayside/test/harness"
)

var soakTime = flag.Duration("soak", 0, "how long to soak; 0 is one short round")

const (
	shortRound = 6 * time.Second
	longRound  = 20 * time.Second
	// grow is what a process may hold at the end of a soak beside its
	// beginning, and warm how long it may grow before that counts.
	grow = 1.2
	warm = 45 * time.Second
)

// TestSoak wears two brokers. One is killed, restarted and has its disk full;
// the other goes on all the time, so that what it holds can be compared with
// what it held. Afterwards the fuzzers and the model checker have their share.
// The clock is left alone here: the model checker sets it.
func TestSoak(t *testing.T) {
	bin := harness.Waysided(t)
	brokers := *soakTime * 7 / 10
	begin := time.Now()
	s := &soak{t: t, until: begin.Add(brokers), round: longRound}
	if *soakTime == 0 {
		s.round = shortRound
	}
	dir := t.TempDir()
	s.steady = startProcess(t, bin, dir, filepath.Join(dir, "data"))
	dir = t.TempDir()
	s.battered = startProcess(t, bin, dir, smallDisk(t, filepath.Join(dir, "data")))
	var wg sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	wg.Go(func() { s.watch(ctx) })
	wg.Go(func() { s.annoy(ctx) })
	var load sync.WaitGroup
	load.Go(func() { s.rounds("steady", s.steady, nil) })
	load.Go(func() { s.rounds("battered", s.battered, s.batter) })
	load.Wait()
	stop()
	wg.Wait()
	s.summary(time.Since(begin))
	if *soakTime > 0 {
		left := max(*soakTime-time.Since(begin), time.Minute)
		t.Run("fuzz", func(t *testing.T) { fuzz(t, left*2/3) })
		t.Run("model", func(t *testing.T) {
			tool(t, "go", "test", "./services/broker/model", "-count", "1", "-timeout", "0", "-soak", (left / 3).String())
		})
	}
}

type soak struct {
	t                *testing.T
	until            time.Time
	round            time.Duration
	steady, battered *process

	kills, stops, fulls, rounded, acked, txns, annoyed atomic.Int64

	mu      sync.Mutex
	samples []usage
}

// rounds runs one round at least.
func (s *soak) rounds(name string, p *process, batter func(ctx context.Context)) {
	for i := 0; i == 0 || time.Now().Before(s.until) && !s.t.Failed(); i++ {
		r := newRound(s.t, p.addr, fmt.Sprintf("%s%d", name, i))
		if *soakTime > 0 {
			r.pace = 4 * time.Millisecond
		}
		ctx, stop := context.WithTimeout(s.t.Context(), s.round)
		var wg sync.WaitGroup
		if batter != nil {
			wg.Go(func() { batter(ctx) })
		}
		r.run(ctx)
		stop()
		wg.Wait()
		r.check()
		s.rounded.Add(1)
		s.acked.Add(r.acked.Load())
		s.txns.Add(r.moved.Load())
	}
}

// batter does harm to the broker until ctx ends, and leaves it well.
func (s *soak) batter(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Second + rand.N(2*time.Second)):
		}
		switch n := rand.IntN(4); {
		case n == 0:
			s.battered.end(syscall.SIGTERM)
			s.battered.start()
			s.stops.Add(1)
		case n == 1 && isSmall(s.battered.data):
			s.fillDisk()
		default:
			s.battered.end(syscall.SIGKILL)
			s.battered.start()
			s.kills.Add(1)
		}
		if s.battered.cmd == nil {
			return
		}
	}
}

// smallDisk makes the data folder a file system of its own, which takes root.
func smallDisk(t *testing.T, dir string) string {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=256m"); err != nil {
		t.Logf("the disk never gets full: mount a small one: %v", err)
		return dir
	}
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
	return dir
}

func isSmall(dir string) bool {
	var st syscall.Statfs_t
	return syscall.Statfs(dir, &st) == nil && int64(st.Blocks)*st.Bsize <= 256<<20
}

// fillDisk takes all of the disk for a moment.
func (s *soak) fillDisk() {
	ballast := filepath.Join(s.battered.data, "ballast")
	f, err := os.Create(ballast)
	if err != nil {
		s.t.Errorf("fill the disk: %v", err)
		return
	}
	defer os.Remove(ballast)
	defer f.Close()
	for b := make([]byte, 1<<20); ; {
		if _, err := f.Write(b); err != nil {
			break
		}
	}
	time.Sleep(time.Second)
	s.fulls.Add(1)
}

// annoy sends the steady broker what no client sends.
func (s *soak) annoy(ctx context.Context) {
	corpus := readCorpus(s.t)
	for ctx.Err() == nil {
		talk(func(c net.Conn) {
			c.SetDeadline(time.Now().Add(200 * time.Millisecond))
			c.Write(mutated(corpus))
			readFrame(c)
		})(ctx, s.steady.addr, 0, &s.annoyed)
		time.Sleep(20 * time.Millisecond)
	}
}

// watch looks at what the steady broker holds, and says a line each minute.
func (s *soak) watch(ctx context.Context) {
	begin := time.Now()
	for i := 1; ; i++ {
		select {
		case <-ctx.Done():
			return
		case <-time.After(2 * time.Second):
		}
		u := s.steady.usage()
		if time.Since(begin) > warm || *soakTime == 0 {
			s.mu.Lock()
			s.samples = append(s.samples, u)
			s.mu.Unlock()
		}
		if i%30 == 0 {
			s.t.Logf("%v: %s; %d MB, %d file descriptors, %d goroutines", time.Since(begin).Round(time.Second), s, u.rss>>20, u.fds, u.goroutines)
		}
	}
}

func (s *soak) String() string {
	return fmt.Sprintf("%d rounds, %d records, %d transactions, %d kills, %d restarts, disk full %d times, %d strange requests",
		s.rounded.Load(), s.acked.Load(), s.txns.Load(), s.kills.Load(), s.stops.Load(), s.fulls.Load(), s.annoyed.Load())
}

func (s *soak) summary(took time.Duration) {
	s.t.Logf("in %v: %s", took.Round(time.Second), s)
	for name, of := range map[string]func(usage) int64{
		"resident bytes":   func(u usage) int64 { return u.rss },
		"file descriptors": func(u usage) int64 { return int64(u.fds) },
		"goroutines":       func(u usage) int64 { return int64(u.goroutines) },
	} {
		n := len(s.samples) / 3
		if n == 0 {
			continue
		}
		first, last := median(s.samples[:n], of), median(s.samples[len(s.samples)-n:], of)
		s.t.Logf("%s: %d in the first third, %d in the last", name, first, last)
		if n >= 10 && float64(last) > grow*float64(first) {
			s.t.Errorf("%s grow from %d to %d", name, first, last)
		}
	}
	for _, p := range []*process{s.steady, s.battered} {
		if log, _ := os.ReadFile(p.log()); bytes.Contains(log, []byte("panic")) {
			s.t.Errorf("the log %s has a panic", p.log())
		}
	}
}

func median(all []usage, of func(usage) int64) int64 {
	var n []int64
	for _, u := range all {
		n = append(n, of(u))
	}
	slices.Sort(n)
	return n[len(n)/2]
}

// fuzz gives each fuzz target of the broker the same time.
func fuzz(t *testing.T, d time.Duration) {
	var targets [][2]string // package, name
	var names []string
	list := tool(t, "go", "test", "-list", "^Fuzz", "./services/broker/...")
	for lines := bufio.NewScanner(strings.NewReader(list)); lines.Scan(); {
		switch f := strings.Fields(lines.Text()); {
		case len(f) == 1 && strings.HasPrefix(f[0], "Fuzz"):
			names = append(names, f[0])
		case len(f) > 1 && f[0] == "ok":
			for _, name := range names {
				targets = append(targets, [2]string{f[1], name})
			}
			names = nil
		}
	}
	if len(targets) < 5 {
		t.Fatalf("found %d fuzz targets in\n%s", len(targets), list)
	}
	each := max(d/time.Duration(len(targets)), 5*time.Second).Round(time.Second)
	for _, target := range targets {
		tool(t, "go", "test", target[0], "-run", "^$", "-fuzz", "^"+target[1]+"$", "-fuzztime", each.String(), "-fuzzminimizetime", "5s")
	}
	t.Logf("%d fuzz targets, %v each", len(targets), each)
}

// tool runs a program in the source and returns what it prints.
func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = harness.Source(t)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v: %v\n%s", cmd.Args, err, out)
	}
	return string(out)
}
