package soak

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/test/harness"
)

const (
	boxMemory  = 192 << 20 // of the broker's control group on a box
	mostMemory = 160 << 20 // that it may ever have
	attackTime = 8 * time.Second
)

// TestAttack throws all that is hostile at a broker at once, within the memory
// that it has on a box. Its memory stays bounded, it lives, and a client that
// behaves is served all the time.
func TestAttack(t *testing.T) {
	dir := t.TempDir()
	p := startProcess(t, harness.Waysided(t), dir, filepath.Join(dir, "data"))
	if p.confine(boxMemory) {
		t.Log("in a control group of 192 MB")
	} else {
		t.Log("not in a control group: that takes root and a memory controller. Only its peak is judged.")
	}
	makeTopics(t, p.addr)
	fill(t, p.addr)
	w := &well{}
	ctx, stop := context.WithTimeout(t.Context(), attackTime)
	defer stop()
	var wg sync.WaitGroup
	var done atomic.Int64
	for _, a := range attacks(t) {
		for i := range a.clients {
			wg.Go(func() {
				for ctx.Err() == nil {
					a.once(ctx, p.addr, i, &done)
				}
			})
		}
	}
	wg.Go(func() { w.produce(ctx, t, p.addr) })
	wg.Wait()
	u := p.usage()
	t.Logf("%d attacks; VmHWM %d MB, now %d MB of which %d MB are not of files, %d file descriptors, %d goroutines; the other client's %d records took at most %v",
		done.Load(), u.peak>>20, u.rss>>20, u.anon>>20, u.fds, u.goroutines, len(w.acked), w.longest.Round(time.Millisecond))
	if u.peak == 0 || u.peak > mostMemory {
		t.Errorf("VmHWM is %d MB, want at most %d and a living process", u.peak>>20, int64(mostMemory>>20))
	}
	w.check(t, p.addr)
	if log, _ := os.ReadFile(p.log()); bytes.Contains(log, []byte("panic")) {
		t.Errorf("the broker's log has a panic")
	}
}

func makeTopics(t *testing.T, addr string) {
	t.Helper()
	cl := harness.Client(t, addr)
	defer cl.Close()
	adm := kadm.NewClient(cl)
	compact, small := "compact", "67108864"
	for name, config := range map[string]map[string]*string{
		"well": nil, "t": {"retention.bytes": &small}, "old": nil, "c": {"cleanup.policy": &compact},
	} {
		if _, err := adm.CreateTopic(t.Context(), 6, 1, config, name); err != nil {
			t.Fatal(err)
		}
	}
}

// fill writes what slow readers ask for.
func fill(t *testing.T, addr string) {
	t.Helper()
	cl := harness.Client(t, addr, kgo.DefaultProduceTopic("old"), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(kgo.NoCompression()))
	defer cl.Close()
	for range 40 {
		cl.Produce(t.Context(), &kgo.Record{Value: make([]byte, 900_000)}, nil)
	}
	if err := cl.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// well is a client that behaves.
type well struct {
	acked   []string
	longest time.Duration
}

func (w *well) produce(ctx context.Context, t *testing.T, addr string) {
	cl := harness.Client(t, addr, kgo.DefaultProduceTopic("well"), kgo.ProducerLinger(0))
	defer cl.Close()
	for i := 0; ctx.Err() == nil; i++ {
		begin := time.Now()
		if err := cl.ProduceSync(t.Context(), &kgo.Record{Value: []byte(strconv.Itoa(i))}).FirstErr(); err != nil {
			t.Errorf("a client that behaves: %v", err)
			return
		}
		w.acked = append(w.acked, strconv.Itoa(i))
		w.longest = max(w.longest, time.Since(begin))
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

func (w *well) check(t *testing.T, addr string) {
	t.Helper()
	times := map[string]int{}
	for _, r := range harness.ReadAll(t, addr, "well") {
		times[string(r.Value)]++
	}
	for _, v := range w.acked {
		if times[v] != 1 {
			t.Errorf("record %s is there %d times", v, times[v])
		}
	}
	if len(w.acked) < 10 {
		t.Errorf("%d records were acknowledged, want many", len(w.acked))
	}
}

// attack is one way to be hostile, by so many clients at once.
type attack struct {
	clients int
	once    func(ctx context.Context, addr string, client int, done *atomic.Int64)
}

func attacks(t *testing.T) []attack {
	large := func() []byte { return produce("t", 0, batch(0, noise(1_000_000))) }()
	var left atomic.Int64
	left.Store(800) // batches of 1 MB: the disk is the test's own
	claim := binary.BigEndian.AppendUint32(nil, 31<<20)
	claim = append(claim, 0, 0, 0, 7, 0, 0, 0, 1)
	giant := kmsg.NewPtrMetadataRequest()
	giant.Version = 9
	for i := range 20000 {
		giant.Topics = append(giant.Topics, kmsg.MetadataRequestTopic{Topic: kmsg.StringPtr(fmt.Sprint("none-", i))})
	}
	bomb := produce("c", 0, batch(2, s2.EncodeSnappy(nil, append([]byte{0xfe, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0, 0x80, 0x80, 0x80, 0x80, 8}, make([]byte, 19<<20)...))))
	liar := produce("c", 0, batch(2, binary.AppendUvarint(nil, 31<<20)))
	corpus := readCorpus(t)
	return []attack{
		{100, talk(func(c net.Conn) { // large batches
			for left.Add(-2) > 0 {
				c.Write(large)
				c.Write(large)
				if readFrame(c) != nil || readFrame(c) != nil {
					return
				}
			}
			time.Sleep(100 * time.Millisecond)
		})},
		{100, slowly}, // answers of 8 MB that are read by drops
		{100, talk(func(c net.Conn) { c.Write(claim); io.Copy(io.Discard, c) })},               // half a large request
		{20, talk(func(c net.Conn) { c.Write([]byte{0x7f, 0xff, 0xff, 0xff}); readFrame(c) })}, // 2 GB
		{20, talk(func(c net.Conn) { c.Write([]byte{0, 0}); io.Copy(io.Discard, c) })},         // half a size
		{4, talk(func(c net.Conn) {})},                                                            // a flood
		{5, talk(func(c net.Conn) { c.Write(frame(giant)); readFrame(c) })},                       // thousands of topics
		{20, talk(func(c net.Conn) { c.Write(bomb); c.Write(liar); readFrame(c); readFrame(c) })}, // decompression bombs
		{5, talk(func(c net.Conn) { c.Write(mutated(corpus)); readFrame(c) })},
	}
}

// talk makes an attack of what is done with one connection.
func talk(f func(net.Conn)) func(context.Context, string, int, *atomic.Int64) {
	return func(ctx context.Context, addr string, _ int, done *atomic.Int64) {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			return
		}
		defer c.Close()
		end := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
		defer end()
		c.SetDeadline(time.Now().Add(3 * time.Second))
		f(c)
		done.Add(1)
	}
}

// slowly asks for much and reads little.
func slowly(ctx context.Context, addr string, _ int, done *atomic.Int64) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return
	}
	defer c.Close()
	c.(*net.TCPConn).SetReadBuffer(64 << 10)
	req := kmsg.NewPtrFetchRequest()
	req.Version, req.MaxWaitMillis, req.MinBytes, req.MaxBytes, req.SessionEpoch = 11, 100, 1, 8<<20, -1
	req.Topics = []kmsg.FetchRequestTopic{{Topic: "old", Partitions: []kmsg.FetchRequestTopicPartition{{CurrentLeaderEpoch: -1, PartitionMaxBytes: 8 << 20}}}}
	c.Write(frame(req))
	b := make([]byte, 10<<10)
	for tick := time.Tick(100 * time.Millisecond); ; {
		select {
		case <-ctx.Done():
			done.Add(1)
			return
		case <-tick:
		}
		if _, err := io.ReadFull(c, b); err != nil {
			return
		}
	}
}

func frame(req kmsg.Request) []byte {
	return kmsg.NewRequestFormatter(kmsg.FormatterClientID("hostile")).AppendRequest(nil, req, 7)
}

func produce(topic string, partition int32, records []byte) []byte {
	req := kmsg.NewPtrProduceRequest()
	req.Version, req.Acks, req.TimeoutMillis = 7, -1, 1000
	req.Topics = []kmsg.ProduceRequestTopic{{Topic: topic, Partitions: []kmsg.ProduceRequestTopicPartition{{Partition: partition, Records: records}}}}
	return frame(req)
}

// noise is a record of n bytes.
func noise(n int) []byte {
	body := append(binary.AppendVarint([]byte{0, 0, 0, 1}, int64(n)), make([]byte, n)...)
	return append(binary.AppendVarint(nil, int64(len(body)+1)), append(body, 0)...)
}

// batch is a batch that says it has one record.
func batch(attributes int16, records []byte) []byte {
	b := kmsg.RecordBatch{
		Length: int32(49 + len(records)), Magic: 2, Attributes: attributes, FirstTimestamp: 1, MaxTimestamp: 1,
		ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1, NumRecords: 1, Records: records,
	}
	raw := b.AppendTo(nil)
	binary.BigEndian.PutUint32(raw[17:], crc32.Checksum(raw[21:], crc32.MakeTable(crc32.Castagnoli)))
	return raw
}

func readFrame(c net.Conn) error {
	var size [4]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return err
	}
	_, err := io.CopyN(io.Discard, c, int64(binary.BigEndian.Uint32(size[:])))
	return err
}

// lasting are requests that change what other clients meet.
var lasting = map[kmsg.Key]bool{kmsg.AlterConfigs: true, kmsg.IncrementalAlterConfigs: true, kmsg.AlterClientQuotas: true, kmsg.UpdateFeatures: true}

// readCorpus reads the requests that FuzzRequest starts from.
func readCorpus(t *testing.T) (all [][]byte) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(harness.Source(t), "services", "broker", "server", "testdata", "fuzz", "FuzzRequest", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		_, quoted, _ := strings.Cut(string(text), "[]byte(")
		s, err := strconv.Unquote(strings.TrimSuffix(strings.TrimSpace(quoted), ")"))
		if err != nil {
			t.Fatalf("read %s: %v", name, err)
		}
		if len(s) > 1 && !lasting[kmsg.Key(binary.BigEndian.Uint16([]byte(s)))] {
			all = append(all, []byte(s))
		}
	}
	return all
}

// mutated is a request of a real client with some bytes changed, but for its
// key.
func mutated(corpus [][]byte) []byte {
	b := bytes.Clone(corpus[rand.IntN(len(corpus))])
	for range rand.IntN(6) {
		if i := rand.IntN(len(b)); i > 1 {
			b[i] = []byte{0, 1, 0x7f, 0x80, 0xff, byte(rand.Uint32())}[rand.IntN(6)]
		}
	}
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...)
}
