package bench

import (
	"context"
	_ "embed"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// kfakeServer is franz-go's fake broker: Mode "memory", "dir" (a data
// directory), "sync" (which also syncs each write) or "void" (what is produced is
// acknowledged and forgotten: what a client can do at most).
func kfakeServer(j job) (any, error) {
	opts := []kfake.Opt{kfake.NumBrokers(1)}
	switch j.Mode {
	case "void":
		opts = append(opts, kfake.BlackholeProduce())
	case "sync":
		opts = append(opts, kfake.SyncWrites())
		fallthrough
	case "dir":
		opts = append(opts, kfake.DataDir(j.Dir))
	}
	c, err := kfake.NewCluster(opts...)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	serving(c.ListenAddrs()[0])
	return nil, nil
}

func codec(name string) kgo.CompressionCodec {
	switch name {
	case "zstd":
		return kgo.ZstdCompression()
	case "lz4":
		return kgo.Lz4Compression()
	case "snappy":
		return kgo.SnappyCompression()
	}
	return kgo.NoCompression()
}

// sensor is a record as a site has them, which compresses well, of n bytes.
func sensor(n int) []byte {
	var b []byte
	for i := 0; len(b) < n; i++ {
		b = fmt.Appendf(b, `{"device":"press-%d","temperature":%d.%d,"pressure":%d,"state":"running","sequence":%d}`,
			i%7, 20+i*37%60, i*13%10, 1000+i*7919%500, i*104729)
	}
	return b[:n]
}

// franzProduce sends j.Bytes of records, idempotent when j.Acks is -1.
func franzProduce(j job) (any, error) {
	opts := []kgo.Opt{
		kgo.SeedBrokers(j.Addr), kgo.DefaultProduceTopic(j.Topic), kgo.MaxBufferedRecords(20000),
		kgo.ProducerBatchCompression(codec(j.Codec)), kgo.ProducerLinger(0), kgo.ProducerBatchMaxBytes(1 << 20),
	}
	if j.Acks != -1 {
		opts = append(opts, kgo.RequiredAcks(kgo.LeaderAck()), kgo.DisableIdempotentWrite())
	}
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	ctx := context.Background()
	value := sensor(j.Size)
	var failed error
	var once sync.Once
	begin := time.Now()
	n := j.Bytes / int64(j.Size)
	for range n {
		cl.Produce(ctx, &kgo.Record{Value: value}, func(_ *kgo.Record, err error) {
			if err != nil {
				once.Do(func() { failed = err })
			}
		})
	}
	if err := errors.Join(cl.Flush(ctx), failed); err != nil {
		return nil, err
	}
	return &result{Seconds: time.Since(begin).Seconds(), Bytes: n * int64(j.Size), Requests: n}, nil
}

// franzConsume reads j.Bytes of values from the beginning of a topic.
func franzConsume(j job) (any, error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(j.Addr), kgo.ConsumeTopics(j.Topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxBytes(8<<20), kgo.FetchMaxPartitionBytes(1<<20))
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	r := &result{}
	begin := time.Now()
	for r.Bytes < j.Bytes {
		f := cl.PollFetches(context.Background())
		if err := f.Err(); err != nil {
			return nil, err
		}
		f.EachRecord(func(rec *kgo.Record) { r.Bytes += int64(len(rec.Value)); r.Requests++ })
	}
	r.Seconds = time.Since(begin).Seconds()
	return r, nil
}

// latency sends j.Rate records a second, each on its own, and receives them.
func latency(j job) (any, error) {
	l := &latencies{job: j}
	opts := []kgo.Opt{kgo.SeedBrokers(j.Addr), kgo.DefaultProduceTopic(j.Topic), kgo.ProducerLinger(0), kgo.ProducerBatchCompression(kgo.NoCompression())}
	if j.Acks != -1 {
		opts = append(opts, kgo.RequiredAcks(kgo.LeaderAck()), kgo.DisableIdempotentWrite())
	}
	producer, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, err
	}
	defer producer.Close()
	consumer, err := kgo.NewClient(kgo.SeedBrokers(j.Addr), kgo.ConsumeTopics(j.Topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return nil, err
	}
	defer consumer.Close()
	var wg sync.WaitGroup
	wg.Go(func() { l.receive(consumer) })
	if err := l.send(producer); err != nil {
		return nil, err
	}
	wg.Wait()
	r := &result{Seconds: j.Seconds, Requests: int64(len(l.acks)), Bytes: int64(len(l.acks) * j.Size)}
	r.P50, r.P99, r.P999 = percentiles(l.acks)
	r.E50, r.E99, r.E999 = percentiles(l.received)
	return r, nil
}

type latencies struct {
	job
	mu       sync.Mutex
	acks     []time.Duration
	received []time.Duration
}

// warm is how many records are sent before any is measured.
const warm = 200

func (l *latencies) total() int { return int(float64(l.Rate)*l.Seconds) + warm }

func (l *latencies) send(cl *kgo.Client) error {
	begin := time.Now()
	var failed error
	for i := range l.total() {
		time.Sleep(time.Until(begin.Add(time.Duration(i) * time.Second / time.Duration(l.Rate))))
		value := make([]byte, l.Size)
		sent := time.Now()
		binary.BigEndian.PutUint64(value, uint64(sent.UnixNano()))
		cl.Produce(context.Background(), &kgo.Record{Value: value}, func(_ *kgo.Record, err error) {
			took := time.Since(sent)
			l.mu.Lock()
			defer l.mu.Unlock()
			if err != nil {
				failed = err
			}
			if i >= warm {
				l.acks = append(l.acks, took)
			}
		})
	}
	err := cl.Flush(context.Background())
	l.mu.Lock()
	defer l.mu.Unlock()
	return errors.Join(err, failed)
}

func (l *latencies) receive(cl *kgo.Client) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(l.Seconds)*time.Second+20*time.Second)
	defer cancel()
	for n := 0; n < l.total() && ctx.Err() == nil; {
		f := cl.PollFetches(ctx)
		now := time.Now()
		f.EachRecord(func(r *kgo.Record) {
			if n++; n > warm {
				l.received = append(l.received, now.Sub(time.Unix(0, int64(binary.BigEndian.Uint64(r.Value)))))
			}
		})
	}
}

//go:embed testdata/rdkafka.c
var rdkafkaSource []byte

// buildRdkafka compiles the client of librdkafka; "" and why when that cannot
// be done here.
func buildRdkafka(t testing.TB) (exe, why string) {
	dir := t.TempDir()
	src := filepath.Join(dir, "client.c")
	exe = filepath.Join(dir, "client")
	if err := os.WriteFile(src, rdkafkaSource, 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("gcc", "-O2", "-o", exe, src, "-l:librdkafka.so.1").CombinedOutput(); err != nil {
		return "", fmt.Sprintf("gcc and librdkafka1 are needed: %v %s", err, out)
	}
	return exe, ""
}

// rdkafka runs librdkafka's client: mode is produce or consume.
func rdkafka(t testing.TB, exe, mode string, j job) *result {
	t.Helper()
	cmd := exec.Command(exe, mode, j.Addr, j.Topic, fmt.Sprint(j.Bytes/int64(j.Size)), fmt.Sprint(j.Size), j.Codec, fmt.Sprint(j.Partitions))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("librdkafka's client: %v", err)
	}
	var r result
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatalf("librdkafka's client: got %q: %v", out, err)
	}
	r.CPU = cmd.ProcessState.UserTime().Seconds() + cmd.ProcessState.SystemTime().Seconds()
	return &r
}

// watch consumes j.Conns topics, named j.Topic and a number, to which nothing
// is written.
func watch(j job) (any, error) {
	var topics []string
	for i := range j.Conns {
		topics = append(topics, fmt.Sprint(j.Topic, i))
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(j.Addr), kgo.ConsumeTopics(topics...), kgo.FetchMaxWait(500*time.Millisecond))
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(j.Seconds*float64(time.Second)))
	defer cancel()
	for ctx.Err() == nil {
		cl.PollFetches(ctx)
	}
	return &result{}, nil
}
