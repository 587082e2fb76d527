package bench

import (
	"bufio"
	"encoding/binary"
	"hash/crc32"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// The raw clients send requests that were encoded once, so that the client is
// not the limit.

// batchOf is a record batch of n records of size bytes, not compressed.
func batchOf(n, size int) []byte {
	value := make([]byte, size)
	for i := range value {
		value[i] = byte(i * 7)
	}
	var records []byte
	for i := range n {
		rec := kmsg.Record{OffsetDelta: int32(i), Value: value}
		body := rec.AppendTo(nil)[1:] // without the length, of one byte
		records = append(binary.AppendVarint(records, int64(len(body))), body...)
	}
	now := time.Now().UnixMilli()
	b := kmsg.RecordBatch{
		Length: int32(49 + len(records)), Magic: 2, LastOffsetDelta: int32(n - 1),
		FirstTimestamp: now, MaxTimestamp: now, ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1,
		NumRecords: int32(n), Records: records,
	}
	raw := b.AppendTo(nil)
	binary.BigEndian.PutUint32(raw[17:], crc32.Checksum(raw[21:], castagnoli))
	return raw
}

func format(req kmsg.Request) []byte {
	return kmsg.NewRequestFormatter(kmsg.FormatterClientID("bench")).AppendRequest(nil, req, 0)
}

func produceRequest(j job, partition int32) []byte {
	req := kmsg.NewPtrProduceRequest()
	req.Version, req.Acks, req.TimeoutMillis = 7, int16(j.Acks), 30000
	req.Topics = []kmsg.ProduceRequestTopic{{Topic: j.Topic, Partitions: []kmsg.ProduceRequestTopicPartition{
		{Partition: partition, Records: batchOf(j.Records, j.Size)},
	}}}
	return format(req)
}

// rawProduce sends one batch again and again over j.Conns connections, with
// j.Window requests under way on each.
func rawProduce(j job) (any, error) {
	p := &rawProducer{job: j}
	p.left.Store(j.Bytes)
	if j.Bytes == 0 {
		p.left.Store(1 << 60)
		p.until = time.Now().Add(time.Duration(j.Seconds * float64(time.Second)))
	}
	var conns []net.Conn
	for range j.Conns {
		c, err := net.Dial("tcp", j.Addr)
		if err != nil {
			return nil, err
		}
		defer c.Close()
		conns = append(conns, c)
	}
	var frames [][]byte
	for i := range max(j.Partitions, 1) {
		frames = append(frames, produceRequest(j, int32(i)))
	}
	begin := time.Now()
	if j.Bytes == 0 {
		p.until = begin.Add(time.Duration(j.Seconds * float64(time.Second)))
	}
	var wg sync.WaitGroup
	errs := make(chan error, len(conns))
	for i, c := range conns {
		wg.Go(func() { errs <- p.run(c, frames[i%len(frames)]) })
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			return nil, err
		}
	}
	r := &result{Seconds: time.Since(begin).Seconds(), Bytes: p.sent.Load(), Requests: int64(len(p.took))}
	r.P50, r.P99, r.P999 = percentiles(p.took)
	return r, nil
}

type rawProducer struct {
	job
	until time.Time
	left  atomic.Int64
	sent  atomic.Int64
	mu    sync.Mutex
	took  []time.Duration
}

func (p *rawProducer) run(c net.Conn, frame []byte) error {
	sent := make(chan time.Time, p.Window)
	fail := make(chan error, 1)
	slots := make(chan struct{}, p.Window)
	go func() { fail <- p.readAnswers(c, sent, slots) }()
	frame = append([]byte(nil), frame...)
	for i := uint32(0); p.more(len(frame)); i++ {
		select {
		case slots <- struct{}{}:
		case err := <-fail:
			return err
		}
		binary.BigEndian.PutUint32(frame[8:], i)
		sent <- time.Now()
		if _, err := c.Write(frame); err != nil {
			return err
		}
		p.sent.Add(int64(len(frame)))
	}
	close(sent)
	return <-fail
}

func (p *rawProducer) more(n int) bool {
	if p.Bytes == 0 {
		return time.Now().Before(p.until)
	}
	return p.left.Add(-int64(n)) > -int64(n)
}

func (p *rawProducer) readAnswers(c net.Conn, sent chan time.Time, slots chan struct{}) error {
	r := bufio.NewReaderSize(c, 4096)
	var took []time.Duration
	for at := range sent {
		body, err := readFrame(r)
		if err == nil && !p.Plain {
			err = checkProduced(body[4:])
		}
		if err != nil {
			return err
		}
		took = append(took, time.Since(at))
		<-slots
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.took = append(p.took, took...)
	return nil
}

func checkProduced(body []byte) error {
	resp := &kmsg.ProduceResponse{Version: 7}
	if err := resp.ReadFrom(body); err != nil {
		return err
	}
	return kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode)
}

func readFrame(r io.Reader) ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	b := make([]byte, binary.BigEndian.Uint32(size[:]))
	_, err := io.ReadFull(r, b)
	return b, err
}

// rawFetch reads a partition from its beginning, over and over, in pieces of
// j.Size bytes, until it has j.Bytes.
func rawFetch(j job) (any, error) {
	c, err := net.Dial("tcp", j.Addr)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	f := &rawFetcher{job: j, c: c, buf: make([]byte, j.Size+(1<<20))}
	begin := time.Now()
	for f.got < j.Bytes {
		if err := f.one(); err != nil {
			return nil, err
		}
	}
	return &result{Seconds: time.Since(begin).Seconds(), Bytes: f.got, Requests: f.requests}, nil
}

type rawFetcher struct {
	job
	c        net.Conn
	buf      []byte
	offset   int64
	got      int64
	requests int64
}

func (f *rawFetcher) one() error {
	frame := make([]byte, 8)
	if !f.Plain {
		frame = format(fetchRequest(f.Topic, f.offset, int32(f.Size)))
	}
	if _, err := f.c.Write(frame); err != nil {
		return err
	}
	if _, err := io.ReadFull(f.c, f.buf[:4]); err != nil {
		return err
	}
	body := f.buf[:binary.BigEndian.Uint32(f.buf)]
	if _, err := io.ReadFull(f.c, body); err != nil {
		return err
	}
	f.requests++
	if f.Plain {
		f.got += int64(len(body))
		return nil
	}
	resp := &kmsg.FetchResponse{Version: 11}
	if err := resp.ReadFrom(body[4:]); err != nil {
		return err
	}
	p := resp.Topics[0].Partitions[0]
	if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
		return err
	}
	f.got += int64(len(p.RecordBatches))
	f.offset = nextOffset(p.RecordBatches, f.offset)
	if f.offset >= p.HighWatermark {
		f.offset = 0
	}
	return nil
}

func fetchRequest(topic string, offset int64, size int32) *kmsg.FetchRequest {
	req := kmsg.NewPtrFetchRequest()
	req.Version, req.MaxWaitMillis, req.MinBytes, req.MaxBytes, req.SessionEpoch = 11, 500, 1, size, -1
	p := kmsg.NewFetchRequestTopicPartition()
	p.FetchOffset, p.PartitionMaxBytes = offset, size
	req.Topics = []kmsg.FetchRequestTopic{{Topic: topic, Partitions: []kmsg.FetchRequestTopicPartition{p}}}
	return req
}

// nextOffset is the offset after the last whole batch in b.
func nextOffset(b []byte, offset int64) int64 {
	for len(b) >= 61 {
		size := 12 + int(binary.BigEndian.Uint32(b[8:]))
		if size > len(b) {
			break
		}
		offset = int64(binary.BigEndian.Uint64(b)) + int64(binary.BigEndian.Uint32(b[23:])) + 1
		b = b[size:]
	}
	return offset
}

// holdConnections opens connections, says hello on each, and holds them until
// its stdin ends.
func holdConnections(j job) (any, error) {
	hello := kmsg.NewPtrApiVersionsRequest()
	hello.Version = 2
	for range j.Conns {
		c, err := net.Dial("tcp", j.Addr)
		if err != nil {
			return nil, err
		}
		defer c.Close()
		if _, err := c.Write(format(hello)); err != nil {
			return nil, err
		}
		if _, err := readFrame(c); err != nil {
			return nil, err
		}
	}
	serving("nothing")
	return &result{}, nil
}

// poll has j.Conns clients wait for records that do not come, each for 500 ms
// at a time, in one partition.
func poll(j job) (any, error) {
	var wg sync.WaitGroup
	errs := make(chan error, j.Conns)
	until := time.Now().Add(time.Duration(j.Seconds * float64(time.Second)))
	for range j.Conns {
		wg.Go(func() { errs <- pollUntil(j, until) })
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return &result{}, nil
}

func pollUntil(j job, until time.Time) error {
	c, err := net.Dial("tcp", j.Addr)
	if err != nil {
		return err
	}
	defer c.Close()
	frame := format(fetchRequest(j.Topic, 0, 1<<20))
	for time.Now().Before(until) {
		if _, err := c.Write(frame); err != nil {
			return err
		}
		if _, err := readFrame(c); err != nil {
			return err
		}
	}
	return nil
}

// slowRead has j.Conns clients ask for 8 MB each and read it at some 100 KB/s,
// until its stdin ends.
func slowRead(j job) (any, error) {
	done := make(chan struct{})
	go func() {
		io.Copy(io.Discard, os.Stdin)
		close(done)
	}()
	var wg sync.WaitGroup
	for range j.Conns {
		c, err := net.Dial("tcp", j.Addr)
		if err != nil {
			return nil, err
		}
		c.(*net.TCPConn).SetReadBuffer(64 << 10)
		wg.Go(func() {
			defer c.Close()
			tick := time.NewTicker(100 * time.Millisecond)
			defer tick.Stop()
			frame, buf := format(fetchRequest(j.Topic, 0, 8<<20)), make([]byte, 10<<10)
			for c.Write(frame); ; {
				select {
				case <-tick.C:
				case <-done:
					return
				}
				if _, err := io.ReadFull(c, buf); err != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	return &result{}, nil
}
