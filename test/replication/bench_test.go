package replication

import (
	"context"
	_ "embed"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/test/harness"
)

var (
	benchRecords = flag.Int("bench-links", 0, "measure links beside MirrorMaker 2 with so many records of 1 KB")
	benchPage    = flag.String("bench-page", "", "write the tables to this page")
)

//go:embed testdata/mirror-pom.xml
var mirrorPom []byte

const benchTopic = "sensors"

// carrier is what is measured: it carries benchTopic from a broker of ours to
// Kafka behind a proxy, exactly once.
type carrier struct {
	name  string
	topic string // at the centre
	cmd   func(t *testing.T, from, to string) *exec.Cmd
}

// measured is what carrying all records took.
type measured struct {
	first, all time.Duration // from the start of the process
	cpu        float64       // seconds
	peak       int64         // bytes resident
	wire       int64         // bytes on the uplink, both ways
	twice      int64         // records that are there again after a kill -9 in the middle
}

// TestBenchLinks measures; nothing is judged but that all records arrive.
func TestBenchLinks(t *testing.T) {
	if *benchRecords == 0 {
		t.Skip("measures for minutes: run make bench-replicator")
	}
	_, from := startBroker(t, nil)
	harness.CreateTopic(t, from, benchTopic, partitions)
	fillTopic(t, from, *benchRecords)
	table := "| | records/s | CPU s | records/CPU s | peak MB | first record, s | MB on the wire | twice after kill -9 |\n|---|---|---|---|---|---|---|---|\n"
	made := carrier{"Wayside, `zstd`", "shop." + benchTopic, waysideCarrier("zstd")}
	for _, c := range []carrier{
		made,
		{"Wayside, `keep`", "shop." + benchTopic, waysideCarrier("keep")},
		{"MirrorMaker 2, `zstd`", "edge." + benchTopic, mirrorCarrier},
	} {
		m := measureCarrier(t, c, from)
		rate := float64(*benchRecords) / (m.all - m.first).Seconds()
		table += fmt.Sprintf("| %s | %.0f | %.1f | %.0f | %d | %.1f | %d | %d |\n",
			c.name, rate, m.cpu, float64(*benchRecords)/m.cpu, m.peak>>20, m.first.Seconds(), m.wire/1e6, m.twice)
	}
	share, plain := measureCatchUp(t, made, from)
	table += fmt.Sprintf(catchUpText, line*8/1_000_000, 100*share, 100*plain)
	t.Log("\n" + table)
	if *benchPage == "" {
		return
	}
	page := fmt.Sprintf(benchText, *benchRecords, time.Now().UTC().Format(time.DateOnly), *benchRecords, partitions, table)
	if err := os.WriteFile(*benchPage, []byte(page), 0o644); err != nil {
		t.Fatal(err)
	}
}

const benchText = `# Benchmarks of links

Written by ` + "`make bench-replicator RECORDS=%d`" + ` (%s); do not edit. The machine
is that of [benchmarks.md](benchmarks.md).

%d records of 1 KB in %d partitions, uncompressed in our broker, are carried to
an empty Apache Kafka 4.3.1 behind a proxy that counts, all on one machine,
exactly once, by each in turn. MirrorMaker 2 is of the same release, with
` + "`exactly.once.source.support`" + `, three tasks and a heap of 1 GB. Records a second
count from the first that readers of committed records see. CPU and memory are
those of the carrier's process until all are there. The last column is of a
second run, in which the carrier is killed after a third and started again.

%s`

const catchUpText = `
## After an outage

The same records over a line of %d Mbit/s a connection, for ten seconds of the
backlog: the replicator fills %.0f %% of the line (bytes both ways). What the fetch path, zstd and a
producer without any promise carry together fills %.0f %% of it.
`

// line is what each connection carries after an outage, bytes a second.
const line = 2_500_000

// measureCatchUp is how much of the line the replicator fills with a backlog,
// and how much a consumer and a producer without any promise do.
func measureCatchUp(t *testing.T, c carrier, from string) (share, plain float64) {
	proxy := harness.StartProxy(t)
	centre := harness.StartKafkaBehind(t, proxy.Addr)
	proxy.Target(centre.GuestListen)
	filled := func() float64 {
		before, began := proxy.Bytes(), time.Now()
		time.Sleep(10 * time.Second) // the measurement itself
		return float64(proxy.Bytes()-before) / time.Since(began).Seconds() / line
	}
	cmd := c.cmd(t, from, proxy.Addr)
	proxy.Limit(line, 0)
	startQuiet(t, cmd)
	waitCount(t, centre.HostAddr, c.topic, 1, time.Now())
	share = filled()
	end(cmd, syscall.SIGKILL)

	harness.CreateTopic(t, centre.HostAddr, "plain", partitions)
	src := harness.Client(t, from, kgo.ConsumeTopics(benchTopic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	defer src.Close()
	dst := harness.Client(t, proxy.Addr, kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(kgo.ZstdCompression()))
	defer dst.Close()
	ctx, stop := context.WithCancel(t.Context())
	var copied sync.WaitGroup
	copied.Go(func() {
		for ctx.Err() == nil {
			src.PollFetches(ctx).EachRecord(func(r *kgo.Record) {
				dst.Produce(ctx, &kgo.Record{Topic: "plain", Partition: r.Partition, Key: r.Key, Value: r.Value, Timestamp: r.Timestamp}, nil)
			})
		}
	})
	waitCount(t, centre.HostAddr, "plain", 1, time.Now())
	plain = filled()
	stop()
	copied.Wait()
	centre.Stop()
	return share, plain
}

// fillTopic writes records that compress about as sensors' do.
func fillTopic(t *testing.T, addr string, n int) {
	cl := harness.Client(t, addr, kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(kgo.NoCompression()))
	defer cl.Close()
	rnd := rand.New(rand.NewPCG(1, 2))
	for i := range n {
		value := fmt.Appendf(nil, `{"n":%d,"t":%.3f,"name":"pump`, i, rnd.Float64()*100)
		for len(value) < 1000 {
			value = strconv.AppendUint(append(value, `","raw":"`...), rnd.Uint64(), 36)
		}
		cl.Produce(t.Context(), &kgo.Record{Topic: benchTopic, Partition: int32(i % partitions), Key: fmt.Appendf(nil, "device-%d", i%100), Value: value}, func(_ *kgo.Record, err error) {
			if err != nil {
				t.Errorf("write: %v", err)
			}
		})
	}
	if err := cl.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// measureCarrier carries all records into an empty centre, and again into
// another one with a kill in the middle.
func measureCarrier(t *testing.T, c carrier, from string) (m measured) {
	for _, kill := range []bool{false, true} {
		proxy := harness.StartProxy(t)
		centre := harness.StartKafkaBehind(t, proxy.Addr)
		proxy.Target(centre.GuestListen)
		cmd := c.cmd(t, from, proxy.Addr)
		begin := time.Now()
		startQuiet(t, cmd)
		wait := func(n int64) time.Duration { return waitCount(t, centre.HostAddr, c.topic, n, begin) }
		first := wait(1)
		if kill {
			wait(int64(*benchRecords / 3))
			end(cmd, syscall.SIGKILL)
			cmd = c.cmd(t, from, proxy.Addr)
			startQuiet(t, cmd)
		}
		all := wait(int64(*benchRecords))
		if !kill {
			m.first, m.all, m.wire = first, all, proxy.Bytes()
			m.cpu, m.peak = used(cmd.Process.Pid)
		}
		end(cmd, syscall.SIGTERM)
		if kill {
			m.twice = int64(len(harness.ReadCommitted(t, centre.HostAddr, c.topic)) - *benchRecords)
		}
		centre.Stop()
	}
	return m
}

func startQuiet(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { end(cmd, syscall.SIGKILL) })
}

func end(cmd *exec.Cmd, sig os.Signal) {
	if cmd.ProcessState == nil {
		cmd.Process.Signal(sig)
		_ = cmd.Wait()
	}
}

// waitCount waits until a topic holds n records that readers of committed
// ones see, transactions' ends among them: it errs by some hundredths.
func waitCount(t *testing.T, addr, topic string, n int64, begin time.Time) time.Duration {
	t.Helper()
	cl := harness.Client(t, addr, kgo.MetadataMinAge(20*time.Millisecond), kgo.MetadataMaxAge(100*time.Millisecond))
	defer cl.Close()
	adm := kadm.NewClient(cl)
	for deadline := time.Now().Add(20 * time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		ends, err := adm.ListCommittedOffsets(t.Context(), topic)
		if err != nil {
			continue
		}
		have := int64(0)
		ends.Each(func(o kadm.ListedOffset) { have += max(0, o.Offset) })
		if have >= n {
			return time.Since(begin)
		}
	}
	t.Fatalf("topic %s never had %d records", topic, n)
	return 0
}

// used is a process's CPU time in seconds and its peak of resident bytes.
func used(pid int) (cpu float64, peak int64) {
	stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	for _, i := range []int{11, 12} { // utime and stime, proc_pid_stat(5)
		n, _ := strconv.ParseFloat(fields[i], 64)
		cpu += n / 100
	}
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(status)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "VmHWM:" {
			n, _ := strconv.ParseInt(f[1], 10, 64)
			peak = n << 10
		}
	}
	return cpu, peak
}

func waysideCarrier(compression string) func(t *testing.T, from, to string) *exec.Cmd {
	return func(t *testing.T, from, to string) *exec.Cmd {
		bin := harness.Waysided(t)
		// A name of its own for each: what an earlier centre has is none of its business.
		profile := fmt.Sprintf("version: 1\nsite: shop\nlinks: [{name: hq-%d, bootstrap: [%q], topics: [%s], prefix: shop., guarantee: exactly-once, compression: %s}]\n",
			portOf(to), to, benchTopic, compression)
		return exec.Command(bin, "replicator", "--broker", from, "--site", writeFile(t, "site.yaml", profile))
	}
}

func portOf(addr string) (n int) {
	fmt.Sscan(addr[strings.LastIndexByte(addr, ':')+1:], &n)
	return n
}

func mirrorCarrier(t *testing.T, from, to string) *exec.Cmd {
	conf := fmt.Sprintf(`clusters = edge, centre
edge.bootstrap.servers = %s
centre.bootstrap.servers = %s
edge->centre.enabled = true
edge->centre.topics = %s
centre->edge.enabled = false
centre.exactly.once.source.support = enabled
refresh.topics.interval.seconds = 1
tasks.max = 3
plugin.discovery = service_load
centre.producer.compression.type = zstd
`, from, to, benchTopic)
	for _, topic := range []string{"", "checkpoints.topic.", "heartbeats.topic.", "offset-syncs.topic.", "offset.storage.", "status.storage.", "config.storage."} {
		conf += topic + "replication.factor = 1\n"
	}
	jars := filepath.Join(harness.Jars(t, "mirror-4.3.1", mirrorPom), "*")
	return exec.Command("java", "-Xmx1g", "-cp", jars, "org.apache.kafka.connect.mirror.MirrorMaker", writeFile(t, "mm2.properties", conf))
}
