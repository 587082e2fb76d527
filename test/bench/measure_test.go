package bench

import (
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// measurement is done with each subject in turn, and that again for some
// rounds; the first round is not counted.
type measurement struct {
	name     string
	what     string // for the page
	subjects []string
	kind     kind
	rounds   int  // at most; 0: as many as the run has
	long     bool // with bench.long
	again    bool // two rounds more, for what differs from one to the next
	do       func(b *bench, s *subject) *result
	// prepare, if not nil, makes the topic that all rounds read; else do gets
	// a new topic each time.
	partitions int
	prepare    func(b *bench, s *subject, topic string)
	cold       bool
}

// kind is what a measurement's table shows.
type kind int

const (
	throughput kind = iota // MB/s and CPU per GB
	requests               // requests per second and CPU per request
	delays                 // percentiles
)

// sample is one measurement of one subject.
type sample struct {
	result
	server float64 // CPU seconds of the server
	noise  float64 // cores that others used meanwhile
}

func (s sample) mbs() float64    { return float64(s.Bytes) / 1e6 / s.Seconds }
func (s sample) perGB() float64  { return s.server / (float64(s.Bytes) / 1e9) }
func (s sample) rate() float64   { return float64(s.Requests) / s.Seconds }
func (s sample) perReq() float64 { return s.server / float64(s.Requests) * 1e6 }
func (s sample) p50() float64    { return s.P50 }
func (s sample) p99() float64    { return s.P99 }
func (s sample) client() float64 { return s.CPU / (float64(s.Bytes) / 1e9) }

// settle is how long a server may take to do what it has put off, such as
// syncing what was acknowledged before; that CPU time is counted.
const settle = 150 * time.Millisecond

func (b *bench) measure(m measurement) {
	t := &table{measurement: m, samples: map[string][]sample{}}
	b.page.tables = append(b.page.tables, t)
	rounds := b.rounds
	if m.long {
		b = b.of(b.t)
		b.sizes = b.long
	}
	if m.again && *full {
		rounds += 2
	}
	if m.rounds > 0 {
		rounds = min(rounds, m.rounds)
	}
	topics := map[string]string{}
	for round := range rounds + 1 {
		for _, name := range m.subjects {
			if !b.kafka && (name == kafka || name == kafkaFlush) {
				continue
			}
			s := b.subject(name)
			topic, made := topics[name], false
			if topic == "" {
				topic, made = b.newTopic(s, max(m.partitions, 1)), true
				if m.prepare != nil {
					if !s.plain {
						m.prepare(b, s, topic)
					}
					topics[name], made = topic, false
				}
			}
			if m.cold {
				b.cold(s)
			}
			one := b.sample(s, func() *result { return m.do(b.with(topic), s) })
			if made {
				b.deleteTopic(s, topic)
			}
			if round > 0 || m.cold || rounds == 1 {
				t.samples[name] = append(t.samples[name], one)
			}
		}
	}
	for name, topic := range topics {
		b.deleteTopic(b.subject(name), topic)
	}
}

// with is b for one topic.
func (b *bench) with(topic string) *bench {
	c := *b
	c.topic = topic
	return &c
}

// warm touches as much memory as a measurement will take for page cache and
// gives it back. On a virtual machine the first touch of a page may cost ten
// times what writing it does, which would hide the server.
func (b *bench) warm() {
	n := int(b.bytes + b.records)
	mem, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return
	}
	unix.Madvise(mem, unix.MADV_HUGEPAGE)
	for i := 0; i < n; i += 4096 {
		mem[i] = 1
	}
	unix.Munmap(mem)
}

// sample measures a subject once. What the ones before have written and not
// synced goes to the disk first: the kernel would do it half a minute later, and
// whoever is measured then, and syncs, would wait for it by the tenth of a second.
func (b *bench) sample(s *subject, do func() *result) sample {
	b.warm()
	if *full {
		unix.Sync()
	}
	all, cpu, begin := busy(), cpuOf(s.pid), time.Now()
	r := do()
	time.Sleep(settle)
	one := sample{result: *r, server: cpuOf(s.pid) - cpu}
	one.noise = max(0, (busy()-all-one.server-one.CPU)/time.Since(begin).Seconds())
	return one
}

// raw is a job for the raw clients: batches of a thousand records of 1 KB.
func (b *bench) raw(s *subject, j job) job {
	j.Addr, j.Topic, j.Plain = s.addr, b.topic, s.plain
	if j.Records == 0 {
		j.Records = 1000
	}
	if j.Conns == 0 {
		j.Conns = 1
	}
	if j.Window == 0 {
		j.Window = 5
	}
	j.Size = 1000
	return j
}

func (b *bench) fill(s *subject, topic string, bytes int64) {
	client(b.t, "raw-produce", b.with(topic).raw(s, job{Bytes: bytes, Acks: 1}))
}

func (b *bench) measurements() []measurement {
	return slices.Concat(b.rawMeasurements(), b.clientMeasurements())
}

func (b *bench) rawMeasurements() []measurement {
	produce := func(j job) func(*bench, *subject) *result {
		return func(b *bench, s *subject) *result {
			if j.Seconds == 0 {
				j.Bytes = b.bytes
			} else {
				j.Seconds = min(b.seconds, 3)
			}
			return client(b.t, "raw-produce", b.raw(s, j))
		}
	}
	fetch := func(b *bench, s *subject) *result {
		j := b.raw(s, job{Bytes: 4 * b.bytes})
		j.Size = 1 << 20
		return client(b.t, "raw-fetch", j)
	}
	fetchOnce := func(b *bench, s *subject) *result {
		j := b.raw(s, job{Bytes: b.bytes})
		j.Size = 1 << 20
		return client(b.t, "raw-fetch", j)
	}
	fill := func(b *bench, s *subject, topic string) { b.fill(s, topic, b.bytes) }
	return []measurement{
		{name: "raw produce", what: "batches of 1,000 records of 1 KB, acks=1, one connection, 5 requests under way. The sink reads them from a socket, checks their CRC and writes them to a file, and never syncs it; the second one syncs beside, for every 16 MB, as acks=1 promises; loopback only reads them.",
			subjects: []string{sinkWrite, sinkBehind, loopback, ours, kafka}, do: produce(job{Acks: 1}), long: true, again: true},
		{name: "raw produce, acks=all", what: "the same, acknowledged when durable. Kafka without flush.messages acknowledges before.",
			subjects: []string{sinkSync, ours, kafkaFlush, kafka}, do: produce(job{Acks: -1}), rounds: 3},
		{name: "raw fetch", what: "1 MB at a time out of the page cache, four times over.",
			subjects: []string{sendfile, ours, kafka}, do: fetch, prepare: fill},
		{name: "raw fetch, cold", what: "the same out of files that are not in the page cache.",
			subjects: []string{sendfile, ours, kafka}, do: fetchOnce, prepare: fill, cold: true, rounds: 2},
		{name: "one-record requests", what: "one record of 1 KB a request, acks=1, 6 connections, 5 requests under way on each.", kind: requests,
			subjects: []string{ours, kafka}, do: produce(job{Acks: 1, Records: 1, Conns: 6, Seconds: 1}), partitions: 6},
		{name: "2,000 connections", what: "the same over 2,000 connections, one request under way on each.", kind: requests,
			subjects: []string{ours, kafka}, do: produce(job{Acks: 1, Records: 1, Conns: 2000, Window: 1, Seconds: 1}), partitions: 6, rounds: 3},
		{name: "group commit", what: "one record of 1 KB a request, acks=all, 16 connections, one request under way on each. The sink syncs its file for each.", kind: requests,
			subjects: []string{sinkSync, ours, kafkaFlush}, do: produce(job{Acks: -1, Records: 1, Conns: 16, Window: 1, Seconds: 1})},
		{name: "durable acknowledgement", what: "one record of 1 KB at a time, acks=all, one connection.", kind: delays,
			subjects: []string{disk, sinkSync, ours, kafkaFlush}, do: func(b *bench, s *subject) *result {
				if s.name == disk {
					return client(b.t, "fdatasync", job{Dir: s.dir, Size: 4096, Seconds: min(b.seconds, 3)})
				}
				return produce(job{Acks: -1, Records: 1, Window: 1, Seconds: 1})(b, s)
			}},
		{name: "produce and fetch at once", what: "one raw client produces a topic while another fetches another one. MB/s and CPU are of both together.",
			subjects: []string{ours, kafka}, prepare: fill, rounds: 3, do: func(b *bench, s *subject) *result {
				other := b.newTopic(s, 1)
				defer b.deleteTopic(s, other)
				p := begin(b.t, "raw-produce", b.with(other).raw(s, job{Bytes: b.bytes, Acks: 1}))
				j := b.raw(s, job{Bytes: b.bytes})
				j.Size = 1 << 20
				return both(begin(b.t, "raw-fetch", j).wait(b.t), p.wait(b.t))
			}},
	}
}

func both(a, b *result) *result {
	return &result{Seconds: max(a.Seconds, b.Seconds), Bytes: a.Bytes + b.Bytes, Requests: a.Requests + b.Requests, CPU: a.CPU + b.CPU}
}

func (b *bench) clientMeasurements() (out []measurement) {
	franz := func(role string, j job) func(*bench, *subject) *result {
		return func(b *bench, s *subject) *result {
			j.Addr, j.Topic, j.Size, j.Bytes = s.addr, b.topic, 1000, b.records
			return client(b.t, role, j)
		}
	}
	fill := func(b *bench, s *subject, topic string) {
		client(b.t, "franz-produce", job{Addr: s.addr, Topic: topic, Size: 1000, Bytes: b.records, Acks: -1})
	}
	for _, c := range []struct {
		partitions, acks int
		codec            string
	}{{1, 1, "none"}, {6, 1, "none"}, {1, -1, "none"}, {6, -1, "none"}, {6, -1, "zstd"}, {6, -1, "lz4"}, {6, -1, "snappy"}} {
		acks, peers, judged := "1", []string{ours, kfakeMemory, kfakeDir, kafka}, c.acks == 1 && c.partitions == 6
		if judged {
			peers = []string{ours, kfakeMemory, kfakeDir, kfakeVoid, kafka}
		}
		if c.acks == -1 {
			acks = "all"
			if c.codec == "none" && c.partitions == 6 {
				peers = []string{ours, kfakeMemory, kfakeDir, kfakeSync, kafka, kafkaFlush}
			}
		}
		out = append(out, measurement{
			name: fmt.Sprintf("franz-go produce, %d partitions, acks=%s, %s", c.partitions, acks, c.codec),
			what: "records of 1 KB of JSON. Bytes are counted before compression.", subjects: peers, partitions: c.partitions, rounds: 3,
			do: franz("franz-produce", job{Acks: c.acks, Codec: c.codec}), long: judged,
		})
	}
	for _, n := range []int{1, 6} {
		out = append(out, measurement{
			name: fmt.Sprintf("franz-go consume, %d partitions", n), what: "what franz-go produced, out of the page cache.",
			subjects: []string{ours, kfakeMemory, kfakeDir, kafka}, partitions: n, rounds: 3, do: franz("franz-consume", job{}), prepare: fill,
		})
	}
	out = append(out, b.rdkafkaMeasurements(fill)...)
	for _, acks := range []int{1, -1} {
		name, peers := "latency at 1,000 records/s, acks=1", []string{ours, kfakeMemory, kafka}
		if acks == -1 {
			name, peers = "latency at 1,000 records/s, acks=all", []string{ours, kfakeSync, kafkaFlush, kafka}
		}
		out = append(out, measurement{
			name: name, what: "franz-go, records of 1 KB, no linger, one partition; end to end to a consumer in the same process.", kind: delays, subjects: peers, long: true,
			do: func(b *bench, s *subject) *result {
				return client(b.t, "latency", job{Addr: s.addr, Topic: b.topic, Size: 1000, Acks: acks, Rate: 1000, Seconds: b.seconds})
			},
		})
	}
	return out
}

func (b *bench) rdkafkaMeasurements(fill func(*bench, *subject, string)) []measurement {
	exe, why := buildRdkafka(b.t)
	if exe == "" {
		b.page.notes = append(b.page.notes, "librdkafka was not measured: "+why)
		return nil
	}
	run := func(mode string, times int64) func(*bench, *subject) *result {
		return func(b *bench, s *subject) *result {
			return rdkafka(b.t, exe, mode, job{Addr: s.addr, Topic: b.topic, Size: 1000, Bytes: times * b.records, Codec: "none", Partitions: 6})
		}
	}
	return []measurement{
		{name: "librdkafka produce", what: "records of 1 KB, 6 partitions, idempotent, acks=all, linger 5 ms.", subjects: []string{ours, kfakeMemory, kfakeVoid, kafka},
			partitions: 6, do: run("produce", 2), long: true},
		{name: "librdkafka consume", what: "6 partitions, out of the page cache.", subjects: []string{ours, kfakeMemory, kafka},
			partitions: 6, do: run("consume", 1), prepare: fill, rounds: 2, long: true},
	}
}
