package server

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// inUse is what goroutines and heap take, in bytes.
func inUse() (goroutines, bytes int) {
	runtime.GC() // shrinks stacks, and pools are empty after the second
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return runtime.NumGoroutine(), int(m.HeapAlloc + m.StackInuse)
}

// TestIdleConnections: a client that waits costs one goroutine, whose stack is
// as small as stacks are, and no buffer.
func TestIdleConnections(t *testing.T) {
	const (
		n    = 400
		most = 7 << 10 // with its client's end; it is some 4.5 KB
	)
	s := newServer(t)
	s.Connections = n
	addr := listen(t, s)
	whole := frameOf(kmsg.NewPtrMetadataRequest(), 1)
	goroutines, bytes := inUse()
	for range n {
		c := dial(t, addr)
		c.Write(whole)
		readFrame(t, c)
	}
	g, b := inUse()
	for end := time.Now().Add(20 * time.Second); (b-bytes)/n > most && time.Now().Before(end); g, b = inUse() {
		time.Sleep(restAfter)
	}
	if g -= goroutines; g > n {
		t.Errorf("%d connections have %d goroutines", n, g)
	}
	if b = (b - bytes) / n; b > most {
		t.Errorf("a connection takes %d bytes, with its client's end", b)
	}
}

// TestRest: a client that comes back after a rest is answered, however little of
// a request comes first.
func TestRest(t *testing.T) {
	c := dial(t, listen(t, newServer(t)))
	whole := frameOf(kmsg.NewPtrMetadataRequest(), 1)
	for range 3 {
		for i := range len(whole) {
			if i < 2 {
				time.Sleep(restAfter * 3 / 2) // nothing hangs on it: it is to have a rest under way
			}
			c.Write(whole[i : i+1])
		}
		readFrame(t, c)
	}
}

// TestIdleTooLong: a client at rest is let go in its time, and not before.
func TestIdleTooLong(t *testing.T) {
	s := newServer(t)
	s.IdleTimeout = 6 * restAfter
	addr := listen(t, s)
	begin := time.Now()
	c := dial(t, addr)
	if _, err := c.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("idle for ever: got %v, want the end", err)
	}
	if d := time.Since(begin); d < s.IdleTimeout {
		t.Errorf("let go after %v, idle time is %v", d, s.IdleTimeout)
	}
}

// TestRequestMemory: clients that announce more than there is memory for, and
// then send nothing, make neither heartbeats wait nor the heap grow. Each is
// dropped in its time.
func TestRequestMemory(t *testing.T) {
	s := newServer(t)
	s.Connections = 100
	addr := listen(t, s)
	bystander := dial(t, addr)
	_, before := inUse()
	head := binary.BigEndian.AppendUint32(nil, 1<<20)
	head = append(head, 0, 0, 0, 7, 0, 0, 0, 1) // Produce
	for range 20 {
		dial(t, addr).Write(head)
	}
	eventually(t, "the budget is used up", func() bool {
		n, ok := s.memory.records.tryAcquire(1 << 20)
		if ok {
			s.memory.records.release(n)
		}
		return !ok
	})
	bystander.Write(frameOf(kmsg.NewPtrMetadataRequest(), 1))
	readFrame(t, bystander)
	if _, after := inUse(); after-before > 8<<20 {
		t.Errorf("20 connections that claim 1 MB each take %d bytes, 4 MB are allowed", after-before)
	}
	eventually(t, "all are dropped", func() bool { return s.Open() == 1 })
}

// TestStall: the longer the line, the less those who hold it up are waited for.
func TestStall(t *testing.T) {
	const mb = 1 << 20
	for line, want := range map[int64]time.Duration{
		1: stallMost, 16 * mb: stallMost, 96 * mb: 2 * time.Second, 484 * mb: stallLeast, 1 << 62: stallLeast,
	} {
		b := newBudget(16 * mb)
		b.want = line
		if got, wanted := b.stall(); !wanted || got != want {
			t.Errorf("%d bytes wait: %s, %v, want %s", line, got, wanted, want)
		}
	}
	if _, wanted := newBudget(mb).stall(); wanted {
		t.Error("nobody waits, and it is wanted")
	}
}

// TestTrickle: those who hold all memory and send a byte now and then, after
// half of what they have announced, make room for one who waits.
func TestTrickle(t *testing.T) {
	s := newServer(t)
	s.TransferTimeout = time.Minute
	addr := listen(t, s)
	half := binary.BigEndian.AppendUint32(nil, 1<<20)
	half = append(half, 0, 0, 0, 7, 0, 0, 0, 1) // Produce
	half = append(half, make([]byte, 512<<10)...)
	for range 2 {
		c := dial(t, addr)
		c.SetDeadline(time.Time{})
		go func() {
			for _, err := c.Write(half); err == nil; _, err = c.Write([]byte{0}) {
				time.Sleep(20 * time.Millisecond)
			}
		}()
	}
	eventually(t, "the budget is used up", func() bool {
		n, ok := s.memory.records.tryAcquire(1)
		if ok {
			s.memory.records.release(n)
		}
		return !ok
	})
	c := dial(t, addr)
	c.SetDeadline(time.Now().Add(30 * time.Second))
	req := kmsg.NewPtrProduceRequest()
	req.Version, req.Acks = 7, 1
	req.Topics = []kmsg.ProduceRequestTopic{{Topic: "t", Partitions: []kmsg.ProduceRequestTopicPartition{{Records: batchOf(1, 200<<10, 0)}}}}
	c.Write(frameOf(req, 1))
	readFrame(t, c)
}

// TestLargeRequest: a request of some megabytes is taken when it is what it
// claims to be.
func TestLargeRequest(t *testing.T) {
	s := newServer(t)
	s.RequestBytes = 32 << 20
	s.memory = newMemory(64 << 20)
	c := dial(t, listen(t, s))
	req := kmsg.NewPtrMetadataRequest()
	req.Version, req.AllowAutoTopicCreation = 4, false
	for i := range 15000 {
		name := fmt.Sprintf("%0200d", i)
		req.Topics = append(req.Topics, kmsg.MetadataRequestTopic{Topic: &name})
	}
	go c.Write(frameOf(req, 1))
	if _, body := readFrame(t, c); len(body) < 15000*200 {
		t.Errorf("got %d bytes of answer", len(body))
	}
	if n, ok := s.memory.decoded.tryAcquire(16 << 20); !ok {
		t.Error("memory is still held after the answer")
	} else {
		s.memory.decoded.release(n)
	}
}

// TestSlowReader: a client that asks and does not read is dropped, and the
// others are served meanwhile.
func TestSlowReader(t *testing.T) {
	s := newServer(t)
	f := newFetcher(t, s)
	f.topic("t", 1)
	for range 8 {
		f.append("t", 0, batchOf(1, 900_000, 0))
	}
	slow := dial(t, f.c.RemoteAddr().String())
	slow.(*net.TCPConn).SetReadBuffer(4096)
	for i := range int32(20) {
		slow.Write(frameOf(f.request(0, -1, "t", from{0, 0}), i))
	}
	eventually(t, "the slow client is dropped", func() bool { return s.Open() == 1 })
	f.wants("the other is served", f.fetch(f.request(0, -1, "t", from{0, 8})), seen{0, 0, false, 8})
}

// TestProduceUnanswered: a client that wants no answers learns of an error by
// the end of its connection, as from Kafka.
func TestProduceUnanswered(t *testing.T) {
	f := newFetcher(t, newServer(t))
	f.topic("t", 1)
	req := kmsg.NewPtrProduceRequest()
	req.Version, req.Acks = 7, 0
	req.Topics = []kmsg.ProduceRequestTopic{{Topic: "t", Partitions: []kmsg.ProduceRequestTopicPartition{{Records: batchOf(1, 10, 0)}}}}
	f.c.Write(frameOf(req, 1))
	eventually(t, "the record is there", func() bool {
		_, hw := f.s.Catalog.Get("t").Partitions[0].Log.Bounds()
		return hw == 1
	})
	f.wants("no answer came in between", f.fetch(f.request(0, -1, "t", from{0, 1})), seen{0, 0, false, 1})
	req.Topics[0].Partitions[0].Partition = 5
	f.c.Write(frameOf(req, 2))
	if b, err := io.ReadAll(f.c); len(b) > 0 || err != nil && !isReset(err) {
		t.Errorf("got %d bytes, %v, want the connection closed", len(b), err)
	}
}

// blown is an answer whose completion has a defect.
type blown struct{}

func (blown) ready() bool          { return false }
func (blown) wait(context.Context) { panic("a defect") }

// TestPanicInAnswer: a defect met while an answer is completed ends one
// connection and not the broker.
func TestPanicInAnswer(t *testing.T) {
	here, there := net.Pipe()
	defer there.Close()
	c := newConn(newServer(t), here)
	if err := c.respond(t.Context(), &request{answer: answer{msg: kmsg.NewPtrMetadataResponse(), later: blown{}}}); err != nil {
		t.Fatal(err)
	}
	there.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := there.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("got %v, want the connection closed", err)
	}
	c.writers.Wait()
	err := c.respond(t.Context(), &request{answer: answer{msg: kmsg.NewPtrMetadataResponse()}})
	if err == nil {
		err = c.flush()
	}
	if err == nil {
		t.Error("an answer after it: got no error")
	}
}

// TestFetchCommitted: a consumer of committed records gets none past an open
// transaction, and the list of those that were aborted.
func TestFetchCommitted(t *testing.T) {
	f := newFetcher(t, newServer(t))
	log := f.topic("t", 1).Partitions[0].Log
	f.append("t", 0, transactional(7, 0))
	fetch := func(level int8, offset int64) kmsg.FetchResponseTopicPartition {
		req := f.request(0, -1, "t", from{0, offset})
		req.IsolationLevel = level
		return f.fetch(req).Topics[0].Partitions[0]
	}
	if p := fetch(1, 0); len(p.RecordBatches) > 0 || p.LastStableOffset != 0 || p.HighWatermark != 1 {
		t.Errorf("open transaction: got %d bytes, last stable offset %d, high watermark %d", len(p.RecordBatches), p.LastStableOffset, p.HighWatermark)
	}
	if p := fetch(0, 0); len(p.RecordBatches) == 0 || p.LastStableOffset != 0 {
		t.Errorf("open transaction, uncommitted: got %d bytes, last stable offset %d", len(p.RecordBatches), p.LastStableOffset)
	}
	a, err := log.AppendMarker(7, 0, false, 1)
	if err == nil {
		err = log.Wait(t.Context(), a.Next)
	}
	if err != nil {
		t.Fatal(err)
	}
	p := fetch(1, 0)
	if len(p.RecordBatches) == 0 || p.LastStableOffset != 2 || len(p.AbortedTransactions) != 1 || p.AbortedTransactions[0].ProducerID != 7 {
		t.Errorf("aborted: got %d bytes, last stable offset %d, aborted %v", len(p.RecordBatches), p.LastStableOffset, p.AbortedTransactions)
	}
	if p := fetch(0, 0); len(p.AbortedTransactions) != 0 {
		t.Errorf("aborted, uncommitted: got %v", p.AbortedTransactions)
	}
	f.produce("t", 0, 1)
	if p := fetch(1, 2); len(p.RecordBatches) == 0 || len(p.AbortedTransactions) != 0 {
		t.Errorf("behind it: got %d bytes, aborted %v", len(p.RecordBatches), p.AbortedTransactions)
	}
}

// TestFencedEpoch: a client whose leader epoch is old is told the leader.
func TestFencedEpoch(t *testing.T) {
	f := newFetcher(t, newServer(t))
	id := f.topic("t", 1).ID
	req := f.request(0, -1, "", from{0, 0})
	req.Version, req.Topics[0].TopicID, req.Topics[0].Partitions[0].CurrentLeaderEpoch = 16, id, 0
	resp := f.fetch(req)
	p := resp.Topics[0].Partitions[0]
	if p.ErrorCode != kerr.FencedLeaderEpoch.Code || p.CurrentLeader.LeaderID != NodeID || p.CurrentLeader.LeaderEpoch < 1 || len(resp.Brokers) != 1 {
		t.Errorf("got error %d, leader %v, brokers %v", p.ErrorCode, p.CurrentLeader, resp.Brokers)
	}
}
