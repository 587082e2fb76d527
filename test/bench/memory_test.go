package bench

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
)

// boxBytes is the memory that the broker has on a box.
const boxBytes = 192 << 20

// footprint is what the broker takes of memory and, while idle, of a core.
type footprint struct {
	limited       bool // it ran inside a control group of boxBytes
	held          int  // idle connections
	many          int  // partitions
	ready         []float64
	kafkaReady    float64
	idle          memory
	conns         memory    // with idle connections, of the last round
	each          []float64 // KB of anonymous memory that one of them takes, by round
	partitions    memory    // with many partitions
	peak          memory    // after load
	kafka         memory    // Kafka's after its load, if it took part
	idleCPU       float64   // % of a core, 1,000 connections
	pollCPU       float64   // % of a core, 100 clients that poll
	partitionsCPU float64   // % of a core, one consumer of 10,000 partitions
	reopen        float64   // seconds from start to ready, 10,000 partitions
	made          float64   // seconds to make them
	recoveries    []recovery
	open          int    // their partitions, beside that of the longest log
	long          string // bytes of that
}

// memory measures a fresh broker inside a control group as on a box.
func (b *bench) memory() {
	f := &footprint{}
	b.page.footprint = f
	if k := b.servers[kafka]; k != nil {
		f.kafka, f.kafkaReady = memoryOf(k.pid), k.took.Seconds()
	}
	for range b.rounds {
		p := b.startBroker(b.t.TempDir())
		f.ready = append(f.ready, p.took.Seconds()*1000)
		p.stop()
	}
	f.held, f.many = 1000, 10_000
	if !*full {
		f.held, f.many = 50, 500
	}
	for range b.rounds {
		b.hold(f)
	}
	b.idle(f)
	b.load(f)
	b.recoveries(f)
}

// box starts a broker inside the control group.
func (b *bench) box(f *footprint, dir string) *subject {
	p := b.startBroker(dir)
	f.limited = limit(p.pid, boxBytes) == nil
	return &subject{process: p, name: ours, dir: dir}
}

// hold measures what idle connections take, of a fresh broker: of one that has
// had some before, memory that it has not given back yet would be used again.
// What counts is anonymous memory: pages of the program come and go with the
// page cache, by many times as much as a few connections take.
func (b *bench) hold(f *footprint) {
	s := b.box(f, b.t.TempDir())
	defer s.stop()
	f.idle = settled(s.pid)
	held := server(b.t, "hold", job{Addr: s.addr, Conns: f.held})
	defer held.stop()
	f.conns = settled(s.pid)
	f.each = append(f.each, 1000*(f.conns.Anon-f.idle.Anon)/float64(f.held))
}

// settled is a process's memory once that has stayed as it is for a second.
func settled(pid int) memory {
	const (
		look  = 100 * time.Millisecond
		still = 0.05 // MB
	)
	last := memoryOf(pid)
	for quiet, looks := 0, 0; quiet < 10 && looks < 150; looks++ {
		time.Sleep(look)
		now := memoryOf(pid)
		if quiet++; math.Abs(now.Anon-last.Anon) > still {
			last, quiet = now, 0
		}
	}
	return memoryOf(pid)
}

func (b *bench) idle(f *footprint) {
	s := b.box(f, b.t.TempDir())
	defer func() { s.stop() }()
	pause := max(time.Duration(b.seconds*float64(time.Second)), 500*time.Millisecond)
	topic := b.newTopic(s, 1)
	f.idle = settled(s.pid)

	held := server(b.t, "hold", job{Addr: s.addr, Conns: f.held})
	time.Sleep(pause)
	f.idleCPU = b.percent(s, func() { time.Sleep(2 * pause) })
	held.stop()
	f.pollCPU = b.percent(s, func() {
		client(b.t, "poll", job{Addr: s.addr, Topic: topic, Conns: 100, Seconds: pause.Seconds()})
	})

	begin := time.Now()
	b.admin(s, func(ctx context.Context, cl *kadm.Client) error {
		for i := range 10 {
			if _, err := cl.CreateTopic(ctx, int32(f.many/10), 1, nil, fmt.Sprint("many-", i)); err != nil {
				return err
			}
		}
		return nil
	})
	f.made = time.Since(begin).Seconds()
	time.Sleep(pause)
	f.partitions = memoryOf(s.pid)
	f.partitionsCPU = b.percent(s, func() {
		client(b.t, "watch", job{Addr: s.addr, Topic: "many-", Conns: 10, Seconds: pause.Seconds()})
	})
	s.stop()
	p := b.startBroker(s.dir)
	f.reopen = p.took.Seconds()
	p.stop()
}

// percent is how much of a core a server uses while do runs.
func (b *bench) percent(s *subject, do func()) float64 {
	cpu, begin := cpuOf(s.pid), time.Now()
	do()
	return 100 * (cpuOf(s.pid) - cpu) / time.Since(begin).Seconds()
}

// load has 100 connections send batches of 1 MB while 100 slow readers hold
// answers of 8 MB.
func (b *bench) load(f *footprint) {
	s := b.box(f, b.t.TempDir())
	defer s.stop()
	n := 100
	if !*full {
		n = 5
	}
	old := b.newTopic(s, 1)
	b.fill(s, old, 64<<20)
	slow := begin(b.t, "slow-read", job{Addr: s.addr, Topic: old, Conns: n})
	c := b.with(b.newTopic(s, 6))
	client(b.t, "raw-produce", c.raw(s, job{Seconds: b.seconds, Conns: n, Window: 2, Partitions: 6, Acks: 1}))
	client(b.t, "raw-produce", c.raw(s, job{Seconds: b.seconds, Conns: n, Window: 2, Partitions: 6, Acks: -1}))
	f.peak = memoryOf(s.pid)
	slow.end(b.t)
	if f.peak.Total == 0 {
		b.t.Errorf("the broker is gone after the load; was it out of memory?")
	}
}

// limit puts a process into a control group of its own with so many bytes of
// memory, of either version; it takes root.
func limit(pid int, bytes int64) error {
	for _, v := range []struct{ root, limit string }{
		{"/sys/fs/cgroup", "memory.max"}, {"/sys/fs/cgroup/memory", "memory.limit_in_bytes"},
	} {
		dir := filepath.Join(v.root, fmt.Sprintf("wayside-bench-%d", pid))
		if err := os.Mkdir(dir, 0o755); err != nil {
			continue
		}
		if _, err := os.Stat(filepath.Join(dir, v.limit)); err != nil {
			os.Remove(dir)
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, v.limit), []byte(fmt.Sprint(bytes)), 0o644); err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(fmt.Sprint(pid)), 0o644)
	}
	return os.ErrPermission
}

// removeGroups removes the control groups of processes that have ended.
func removeGroups() {
	for _, root := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/memory"} {
		dirs, _ := filepath.Glob(filepath.Join(root, "wayside-bench-*"))
		for _, d := range dirs {
			if procs, err := os.ReadFile(filepath.Join(d, "cgroup.procs")); err == nil && strings.TrimSpace(string(procs)) == "" {
				os.Remove(d)
			}
		}
	}
}
