package bench

import (
	"bufio"
	"bytes"
	"fmt"
	"math"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// report is the page.
type report struct {
	tables    []*table
	footprint *footprint
	notes     []string
	took      time.Duration
	quick     bool
}

type table struct {
	measurement
	samples map[string][]sample
}

// spread is a median and what lies around it.
type spread struct{ low, mid, high float64 }

func spreadOf(values []float64) spread {
	if len(values) == 0 {
		return spread{math.NaN(), math.NaN(), math.NaN()}
	}
	v := slices.Sorted(slices.Values(values))
	mid := v[len(v)/2]
	if len(v)%2 == 0 {
		mid = (v[len(v)/2-1] + v[len(v)/2]) / 2
	}
	return spread{v[0], mid, v[len(v)-1]}
}

func (s spread) String() string {
	if math.IsNaN(s.mid) {
		return "–"
	}
	if s.low == s.high {
		return num(s.mid)
	}
	return fmt.Sprintf("%s (%s–%s)", num(s.mid), num(s.low), num(s.high))
}

// count is a whole number with its thousands apart.
func count(n int) string {
	if n < 1000 {
		return strconv.Itoa(n)
	}
	return fmt.Sprintf("%s,%03d", count(n/1000), n%1000)
}

// num is v with three digits.
func num(v float64) string {
	switch a := math.Abs(v); {
	case a >= 100:
		return fmt.Sprintf("%.0f", v)
	case a >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

func (t *table) spread(name string, of func(sample) float64) spread {
	var v []float64
	for _, s := range t.samples[name] {
		v = append(v, of(s))
	}
	return spreadOf(v)
}

// ratio compares two subjects round by round.
func (t *table) ratio(a, b string, of func(sample) float64) spread {
	var v []float64
	for i := range min(len(t.samples[a]), len(t.samples[b])) {
		v = append(v, of(t.samples[a][i])/of(t.samples[b][i]))
	}
	return spreadOf(v)
}

var columns = map[kind][]struct {
	title string
	of    func(sample) float64
}{
	throughput: {{"MB/s", sample.mbs}, {"server CPU s/GB", sample.perGB}, {"client CPU s/GB", sample.client}, {"noise", noise}},
	requests:   {{"requests/s", sample.rate}, {"server CPU µs each", sample.perReq}, {"p50 ms", sample.p50}, {"p99 ms", sample.p99}, {"noise", noise}},
	delays: {{"ack p50 ms", sample.p50}, {"p99", sample.p99}, {"p99.9", func(s sample) float64 { return s.P999 }},
		{"end to end p50", orNaN(func(s sample) float64 { return s.E50 })}, {"p99", orNaN(func(s sample) float64 { return s.E99 })},
		{"p99.9", orNaN(func(s sample) float64 { return s.E999 })}, {"noise", noise}},
}

func noise(s sample) float64 { return s.noise }

func orNaN(of func(sample) float64) func(sample) float64 {
	return func(s sample) float64 {
		if v := of(s); v != 0 {
			return v
		}
		return math.NaN()
	}
}

func (t *table) markdown(w *bytes.Buffer) {
	fmt.Fprintf(w, "### %s\n\n%s%s\n\n|", strings.ToUpper(t.name[:1])+t.name[1:], strings.ToUpper(t.what[:1]), t.what[1:])
	cols := columns[t.kind]
	fmt.Fprint(w, " |")
	for _, c := range cols {
		fmt.Fprintf(w, " %s |", c.title)
	}
	fmt.Fprint(w, "\n|---|", strings.Repeat("---|", len(cols)), "\n")
	for _, name := range t.subjects {
		if len(t.samples[name]) == 0 {
			continue
		}
		fmt.Fprintf(w, "| %s |", name)
		for _, c := range cols {
			fmt.Fprintf(w, " %s |", t.spread(name, c.of))
		}
		fmt.Fprintln(w)
	}
	fmt.Fprintln(w)
}

// gate is a promise and what was measured.
type gate struct {
	what   string
	got    spread
	limit  float64
	atMost bool
}

func (g gate) String() string {
	sign, ok := "≥", g.got.mid >= g.limit
	if g.atMost {
		sign, ok = "≤", g.got.mid <= g.limit
	}
	verdict := "pass"
	switch {
	case math.IsNaN(g.got.mid):
		verdict = "not measured"
	case !ok:
		verdict = "**fail**"
	}
	return fmt.Sprintf("| %s | %s %s | %s | %s |", g.what, sign, num(g.limit), g.got, verdict)
}

func (r *report) table(name string) *table {
	for _, t := range r.tables {
		if t.name == name {
			return t
		}
	}
	return &table{}
}

// ratio is a gate on two subjects of one measurement.
func (r *report) ratio(what, name, a, b string, of func(sample) float64, limit float64, atMost bool) gate {
	return gate{what, r.table(name).ratio(a, b, of), limit, atMost}
}

func (r *report) gates() []gate {
	const t6 = "franz-go produce, 6 partitions, acks=1, none"
	durable := r.table("durable acknowledgement")
	out := []gate{
		r.ratio("raw produce, CPU per GB over the sink's", "raw produce", ours, sinkWrite, sample.perGB, 1.35, true),
		r.ratio("raw produce, MB/s over the sink's", "raw produce", ours, sinkWrite, sample.mbs, 0.70, false),
		r.ratio("raw fetch, CPU per GB over sendfile's", "raw fetch", ours, sendfile, sample.perGB, 1.7, true),
		{"one-record requests, µs of CPU each", r.table("one-record requests").spread(ours, sample.perReq), 35, true},
		{"durable acknowledgement, p50 over the disk's own for 4 KB", durable.ratio(ours, disk, sample.p50), 4, true},
		r.ratio("group commit, requests/s over one sync for each", "group commit", ours, sinkSync, sample.rate, 3, false),
		r.ratio("franz-go produce, CPU per GB over kfake's with DataDir", t6, ours, kfakeDir, sample.perGB, 0.6, true),
		r.ratio("franz-go consume, CPU per GB over kfake's with DataDir", "franz-go consume, 6 partitions", ours, kfakeDir, sample.perGB, 0.5, true),
		r.ratio("librdkafka produce, MB/s over kfake's in memory", "librdkafka produce", ours, kfakeMemory, sample.mbs, 1.5, false),
		r.ratio("acks=1, MB/s over Kafka's (franz-go, 6 partitions)", t6, ours, kafka, sample.mbs, 1, false),
		r.ratio("acks=1, CPU per GB over Kafka's (franz-go, 6 partitions)", t6, ours, kafka, sample.perGB, 1./3, true),
		r.ratio("acks=1, MB/s over Kafka's (raw)", "raw produce", ours, kafka, sample.mbs, 1, false),
		r.ratio("acks=1, CPU per GB over Kafka's (raw)", "raw produce", ours, kafka, sample.perGB, 1./3, true),
		r.ratio("acks=all durable, requests/s over Kafka's with flush.messages=1 (group commit)", "group commit", ours, kafkaFlush, sample.rate, 5, false),
		r.ratio("latency at 1,000 records/s, acks=1, p99 over Kafka's", "latency at 1,000 records/s, acks=1", ours, kafka, sample.p99, 1, true),
		r.ratio("latency at 1,000 records/s, acks=all, p99 over Kafka's with flush.messages=1", "latency at 1,000 records/s, acks=all", ours, kafkaFlush, sample.p99, 1, true),
	}
	f := r.footprint
	if f == nil {
		return out
	}
	one := func(v float64) spread { return spread{v, v, v} }
	kafkaShare := math.NaN()
	if f.kafka.Total > 0 {
		kafkaShare = f.peak.Peak / f.kafka.Total
	}
	return append(out,
		gate{"memory at its peak under load over Kafka's", one(kafkaShare), 0.1, true},
		gate{"memory when idle, MB", one(f.idle.Total), 20, true},
		gate{count(f.held) + " idle connections, anonymous KB each", spreadOf(f.each), 10, true},
		gate{count(f.many) + " partitions, MB more", one(f.partitions.Total - f.idle.Total), 40, true},
		gate{"memory at its peak under load, MB", one(f.peak.Peak), 160, true},
		gate{count(f.held) + " idle connections, % of a core", one(f.idleCPU), 0.2, true},
		gate{"100 clients that poll each 500 ms, % of a core", one(f.pollCPU), 4, true},
		gate{count(f.many) + " partitions, seconds to open after a clean stop", one(f.reopen), 2, true},
		gate{"first record after kill -9, warm, s", one(f.recovered(killedWarm).first), 1, true},
		gate{"first record after kill -9, cold, s", one(f.recovered(killedCold).first), 3, true},
		gate{"memory of the recovery of " + count(f.open) + " partitions at its peak, MB", one(f.recovered(killedCold).peak), 64, true},
	)
}

// ceilings are what the limits of some gates cannot tell: how fast the client
// itself is, and what a control takes that promises as much.
func (r *report) ceilings() []gate {
	const raw, rdkafka, t6 = "raw produce", "librdkafka produce", "franz-go produce, 6 partitions, acks=1, none"
	ratio := func(what, name, a, b string, of func(sample) float64) gate {
		return r.ratio(what, name, a, b, of, math.NaN(), false)
	}
	return []gate{
		ratio("raw produce, CPU per GB over a sink that syncs behind", raw, ours, sinkBehind, sample.perGB),
		ratio("raw produce, MB/s over a sink that syncs behind", raw, ours, sinkBehind, sample.mbs),
		ratio("a sink that syncs behind, CPU per GB over one that never does", raw, sinkBehind, sinkWrite, sample.perGB),
		ratio("a sink that syncs behind, MB/s over one that never does", raw, sinkBehind, sinkWrite, sample.mbs),
		ratio("librdkafka with a kfake that keeps nothing, MB/s over kfake's in memory", rdkafka, kfakeVoid, kfakeMemory, sample.mbs),
		ratio("franz-go with a kfake that keeps nothing, MB/s over ours", t6, kfakeVoid, ours, sample.mbs),
		ratio("franz-go with a kfake that keeps nothing, its CPU per GB over kfake's with DataDir", t6, kfakeVoid, kfakeDir, sample.perGB),
	}
}

func (r *report) markdown() string {
	w := &bytes.Buffer{}
	mode, command := "full", "make bench-broker"
	if r.quick {
		mode, command = "quick", "make bench-broker QUICK=1"
	}
	fmt.Fprintf(w, "# Benchmarks of the broker\n\nWritten by `%s` (%s run, %.0f minutes, %s); do not edit.\n\n", command, mode, math.Ceil(r.took.Minutes()), time.Now().UTC().Format(time.DateOnly))
	fmt.Fprint(w, intro, machine(), "\n\n## Gates\n\n| | limit | measured | |\n|---|---|---|---|\n")
	for _, g := range r.gates() {
		fmt.Fprintln(w, g)
	}
	fmt.Fprint(w, ceilings)
	for _, g := range r.ceilings() {
		fmt.Fprintf(w, "| %s | %s |\n", g.what, g.got)
	}
	fmt.Fprint(w, "\n## Measurements\n\n")
	for _, t := range r.tables {
		t.markdown(w)
	}
	if r.footprint != nil {
		r.footprint.markdown(w)
	}
	for _, n := range r.notes {
		fmt.Fprintf(w, "%s\n\n", n)
	}
	return strings.TrimSpace(w.String()) + "\n"
}

const ceilings = `
What lies behind some of these: the plain sink and kfake with DataDir never sync,
acks=1 does within 16 MB or 100 ms; and no server makes a client faster than it
is with a server that keeps nothing.

| | measured |
|---|---|
`

const intro = `All servers run on one machine, with the same client processes and the same
disk. Rounds are interleaved, the first is dropped; a figure is the median of
the rest (lowest–highest). Ratios are taken round by round. Before each round of
each server the disk is synced, so that nobody waits for what others left
unwritten. CPU is of the server process, by its clock, until 150 ms after the
client's end; noise is how many cores other processes used meanwhile. MB/s are the machine's and the
client's as much as the server's: compare them within one table only. MB are
10⁶ bytes. kfake is franz-go's fake broker, which is not durable; Kafka is
Apache Kafka 4.3.1, one KRaft node from its Maven artifacts with a heap of 512
MB, and flush.messages=1 is what makes its acknowledgements durable.

Machine: `

func machine() string {
	var u unix.Utsname
	unix.Uname(&u)
	mem := memInfo()
	return fmt.Sprintf("%s, %d cores, %.0f GB of memory, Linux %s, %s, data on %s.",
		cpuModel(), runtime.NumCPU(), mem, unix.ByteSliceToString(u.Release[:]), runtime.Version(), fileSystem(os.TempDir()))
}

func cpuModel() string { return field("/proc/cpuinfo", "model name", "unknown CPU") }

func memInfo() float64 {
	var kb float64
	fmt.Sscan(field("/proc/meminfo", "MemTotal", "0"), &kb)
	return kb / 1e6
}

func field(file, name, otherwise string) string {
	f, err := os.Open(file)
	if err != nil {
		return otherwise
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if key, value, _ := strings.Cut(s.Text(), ":"); strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return otherwise
}

func fileSystem(dir string) string {
	out, err := exec.Command("df", "--output=fstype", dir).Output()
	f := strings.Fields(string(out))
	if err != nil || len(f) < 2 {
		return "an unknown file system"
	}
	return f[1]
}

func (f *footprint) markdown(w *bytes.Buffer) {
	where := "inside a control group of 192 MB, page cache included"
	if !f.limited {
		where = "**not** inside a control group: that takes root"
	}
	fmt.Fprintf(w, "### Memory, idle CPU, start\n\nOur broker %s, with the environment of its unit file.\n\n", where)
	fmt.Fprint(w, "| | total MB | anonymous MB |\n|---|---|---|\n")
	for _, row := range []struct {
		what string
		m    memory
	}{{"idle", f.idle}, {count(f.held) + " idle connections", f.conns}, {count(f.many) + " partitions", f.partitions},
		{"after 100 connections with batches of 1 MB and 100 slow readers", f.peak}, {"Kafka after its measurements", f.kafka}} {
		if row.m.Total > 0 {
			fmt.Fprintf(w, "| %s | %s | %s |\n", row.what, num(row.m.Total), num(row.m.Anon))
		}
	}
	fmt.Fprintf(w, "\nPeak under that load: %s MB in all.\n\n", num(f.peak.Peak))
	fmt.Fprintf(w, "| | |\n|---|---|\n| start to ready, ms | %s |\n| start to ready with %[2]s partitions, s | %[3]s |\n| making %[2]s partitions, s | %[4]s |\n", spreadOf(f.ready), count(f.many), num(f.reopen), num(f.made))
	if f.kafkaReady > 0 {
		fmt.Fprintf(w, "| Kafka, formatting and start to ready, s | %s |\n", num(f.kafkaReady))
	}
	fmt.Fprintf(w, "| %s idle connections, %% of a core | %s |\n| 100 clients that poll each 500 ms, %% of a core | %s |\n| one consumer of %s partitions, its start included, %% of a core | %s |\n\n",
		count(f.held), num(f.idleCPU), num(f.pollCPU), count(f.many), num(f.partitionsCPU))
	fmt.Fprintf(w, "### Recovery\n\nThe same control group; %s partitions of 1 MB each and one of %s, whose last segment holds 60 MB. "+
		"The record that is acknowledged first (acks=all) goes to that one. Seconds from exec.\n\n"+
		"| | ready | first record acknowledged | all recovered | memory at its peak, MB |\n|---|---|---|---|---|\n", count(f.open), f.long)
	for _, r := range f.recoveries {
		fmt.Fprintf(w, "| %s | %s | %s | %s | %s |\n", r.how, num(r.ready), num(r.first), num(r.all), num(r.peak))
	}
	fmt.Fprintln(w)
}

func TestSpread(t *testing.T) {
	for _, c := range []struct {
		in   []float64
		want spread
	}{{[]float64{3, 1, 2}, spread{1, 2, 3}}, {[]float64{4, 1, 2, 3}, spread{1, 2.5, 4}}, {[]float64{5}, spread{5, 5, 5}}} {
		if got := spreadOf(c.in); got != c.want {
			t.Errorf("%v: got %v, want %v", c.in, got, c.want)
		}
	}
}

func TestGate(t *testing.T) {
	for _, c := range []struct {
		g    gate
		want string
	}{
		{gate{"a", spread{1, 2, 3}, 2, true}, "| a | ≤ 2.00 | 2.00 (1.00–3.00) | pass |"},
		{gate{"b", spread{1, 1, 1}, 2, false}, "| b | ≥ 2.00 | 1.00 | **fail** |"},
		{gate{"c", spreadOf(nil), 2, false}, "| c | ≥ 2.00 | – | not measured |"},
	} {
		if got := c.g.String(); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}
