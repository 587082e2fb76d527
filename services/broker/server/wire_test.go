package server

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"iter"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/broker/catalog"
	"github.com/waysideos/wayside/services/broker/group"
	"github.com/waysideos/wayside/services/broker/meta"
	"github.com/waysideos/wayside/services/broker/share"
	"github.com/waysideos/wayside/services/broker/store"
	"github.com/waysideos/wayside/services/broker/txn"
	"github.com/waysideos/wayside/services/manifest"
	"github.com/waysideos/wayside/services/vfs"
)

// newServer returns a server over a file system in memory.
func newServer(t testing.TB) *Server {
	t.Helper()
	fsys := vfs.NewCrashable(1)
	st, err := meta.Open(fsys, "meta")
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	cat, err := catalog.Open(fsys, st, catalog.Options{Syncer: store.NewSyncer(2, nil), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	m, err := NewMetrics(prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	logs := &lookedAt{Logs: txn.Catalog(cat), done: make(chan struct{})}
	txns := txn.Open(txn.Config{Meta: st, Logs: logs, Log: log})
	t.Cleanup(txns.Close)
	<-logs.done
	var groups *group.Manager
	shares := share.New(share.Options{Meta: st, Setting: cat.BrokerValue, Taken: func(id string) bool { return groups.Has(id) }})
	groups = group.New(group.Options{Meta: st, Taken: shares.Has})
	t.Cleanup(shares.Close)
	return New(Config{
		FormatLevel: func() int { return manifest.FormatLevel },
		Catalog:     cat, Meta: st, Groups: groups, Shares: shares, Txns: txns, Metrics: m, Log: log,
		Advertise:   func(net.Conn) (string, int32) { return "here", 9092 },
		Room:        func(int64, bool) bool { return true },
		Connections: 10, RequestBytes: 1 << 20, RequestMemory: 4 << 20, FetchBytes: 1 << 20,
		IdleTimeout: 10 * time.Second, TransferTimeout: 300 * time.Millisecond,
	})
}

// lookedAt tells when the coordinator has looked for transactions that hang:
// one that a test puts into a log by itself afterwards is let be.
type lookedAt struct {
	txn.Logs
	done chan struct{}
	once sync.Once
}

func (l *lookedAt) Open(ctx context.Context) iter.Seq[txn.OpenTxn] {
	return func(yield func(txn.OpenTxn) bool) {
		defer l.once.Do(func() { close(l.done) })
		l.Logs.Open(ctx)(yield)
	}
}

// listen serves s on a port until the test ends.
func listen(t *testing.T, s *Server) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- s.Serve(t.Context(), []net.Listener{ln}) }()
	t.Cleanup(func() {
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return ln.Addr().String()
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(10 * time.Second))
	return c
}

// frameOf encodes a request as a client does.
func frameOf(msg kmsg.Request, corr int32) []byte {
	client := "test"
	return kmsg.NewRequestFormatter(kmsg.FormatterClientID(client)).AppendRequest(nil, msg, corr)
}

// readFrame returns a response's correlation id and the rest.
func readFrame(t *testing.T, c net.Conn) (int32, []byte) {
	t.Helper()
	var head [8]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		t.Fatal(err)
	}
	body := make([]byte, binary.BigEndian.Uint32(head[:])-4)
	if _, err := io.ReadFull(c, body); err != nil {
		t.Fatal(err)
	}
	return int32(binary.BigEndian.Uint32(head[4:])), body
}

func TestApiVersions(t *testing.T) {
	c := dial(t, listen(t, newServer(t)))
	for _, tt := range []struct {
		version, answered, code int16
		keys                    int
	}{{0, 0, 0, len(apis())}, {3, 3, 0, len(apis())}, {5, 5, 0, len(apis())}, {6, 0, 35, 1}, {99, 0, 35, 1}} {
		req := kmsg.NewPtrApiVersionsRequest()
		req.Version = min(tt.version, 5)
		b := frameOf(req, 7)
		binary.BigEndian.PutUint16(b[6:], uint16(tt.version))
		c.Write(b)
		corr, body := readFrame(t, c)
		resp := &kmsg.ApiVersionsResponse{Version: tt.answered}
		if err := resp.ReadFrom(body); err != nil || corr != 7 {
			t.Fatalf("version %d: correlation %d, %v", tt.version, corr, err)
		}
		if resp.ErrorCode != tt.code || len(resp.ApiKeys) != tt.keys {
			t.Errorf("version %d: code %d with %d keys, want %d with %d", tt.version, resp.ErrorCode, len(resp.ApiKeys), tt.code, tt.keys)
		}
	}
}

// TestEveryVersionAnswers sends every request in every version that is told
// to clients and decodes the answer.
func TestEveryVersionAnswers(t *testing.T) {
	s := newServer(t)
	c := dial(t, listen(t, s))
	if _, err := s.Catalog.Create("t", 1, nil); err != nil {
		t.Fatal(err)
	}
	for _, a := range apis() {
		for v := a.min; v <= a.max; v++ {
			req := kmsg.RequestForKey(a.key.Int16())
			req.SetVersion(v)
			if d, ok := req.(interface{ Default() }); ok {
				d.Default()
			}
			switch r := req.(type) {
			case *kmsg.ProduceRequest:
				r.Acks = 1
			case *kmsg.FetchRequest:
				r.MaxWaitMillis = 0
			}
			c.Write(frameOf(req, int32(v)))
			corr, body := readFrame(t, c)
			resp := req.ResponseKind()
			resp.SetVersion(v)
			if resp.IsFlexible() && a.key != kmsg.ApiVersions {
				body = body[1:]
			}
			if err := resp.ReadFrom(body); err != nil || corr != int32(v) {
				t.Errorf("%s version %d: correlation %d, %v", a.key.Name(), v, corr, err)
			}
			again := resp.AppendTo(nil)
			if !bytes.Equal(again, body) {
				t.Errorf("%s version %d: %d bytes of answer are left over", a.key.Name(), v, len(body)-len(again))
			}
		}
	}
}

// TestHostile sends what no client sends. Each time that one connection is
// closed, and a bystander's goes on.
func TestHostile(t *testing.T) {
	s := newServer(t)
	addr := listen(t, s)
	bystander := dial(t, addr)
	u32 := func(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }
	req := func(key, version uint16, rest ...byte) []byte {
		b := binary.BigEndian.AppendUint16(nil, key)
		b = binary.BigEndian.AppendUint16(b, version)
		b = append(b, 0, 0, 0, 1)
		b = append(b, rest...)
		return append(u32(uint32(len(b))), b...)
	}
	meta := kmsg.NewPtrMetadataRequest()
	whole := frameOf(meta, 1)
	many := kmsg.NewPtrMetadataRequest()
	many.Version, many.Topics = 4, make([]kmsg.MetadataRequestTopic, 50000)
	for name, b := range map[string][]byte{
		"2 GB":                  append(u32(1<<31-1), 0, 3, 0, 0),
		"negative size":         u32(1<<32 - 1),
		"size 0":                u32(0),
		"HTTP":                  []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
		"unknown key":           req(999, 0, 0xff, 0xff),
		"unknown version":       req(3, 99, 0xff, 0xff),
		"client id too long":    req(3, 1, 0x7f, 0xff, 'x'),
		"tags without end":      req(3, 9, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff),
		"array of 2 G topics":   req(3, 1, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff),
		"produce of 2 G topics": req(0, 3, 0xff, 0xff, 0xff, 0xff, 0, 1, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff),
		"more than can be held": frameOf(many, 1),
		"half a request":        whole[:len(whole)-3],
		"half a size":           whole[:2],
	} {
		t.Run(name, func(t *testing.T) {
			c := dial(t, addr)
			c.Write(b)
			if name == "half a size" {
				c.(*net.TCPConn).CloseWrite()
			}
			if rest, err := io.ReadAll(c); len(rest) > 0 || (err != nil && !isReset(err)) {
				t.Errorf("got %d bytes, %v, want the connection closed", len(rest), err)
			}
			bystander.Write(whole)
			readFrame(t, bystander)
		})
	}
}

func isReset(err error) bool {
	ne, ok := err.(net.Error)
	return !ok || !ne.Timeout()
}

func TestTooManyConnections(t *testing.T) {
	s := newServer(t)
	s.Connections = 2
	addr := listen(t, s)
	whole := frameOf(kmsg.NewPtrMetadataRequest(), 1)
	for range 2 {
		c := dial(t, addr)
		c.Write(whole)
		readFrame(t, c)
	}
	if rest, err := io.ReadAll(dial(t, addr)); len(rest) > 0 || (err != nil && !isReset(err)) {
		t.Errorf("third connection: %d bytes, %v, want it closed", len(rest), err)
	}
}

// TestPipelined answers many requests sent at once, in their order.
func TestPipelined(t *testing.T) {
	c := dial(t, listen(t, newServer(t)))
	var all []byte
	for i := range int32(200) {
		all = append(all, frameOf(kmsg.NewPtrMetadataRequest(), i)...)
	}
	go c.Write(all)
	for i := range int32(200) {
		if corr, _ := readFrame(t, c); corr != i {
			t.Fatalf("answer %d has correlation id %d", i, corr)
		}
	}
}

// TestOffsetFetchOfNothing: an empty list of topics is not "all topics", which
// is null.
func TestOffsetFetchOfNothing(t *testing.T) {
	s := newServer(t)
	if _, err := s.Catalog.Create("t", 1, nil); err != nil {
		t.Fatal(err)
	}
	if err := s.Meta.Commit("g", []meta.Offset{{Topic: "t", Offset: 5}}); err != nil {
		t.Fatal(err)
	}
	for v := int16(2); v <= offsetFetchAPI.max; v++ {
		for want, topics := range [][]kmsg.OffsetFetchRequestTopic{{}, nil} { // 0 topics, 1 topic
			req := kmsg.NewPtrOffsetFetchRequest()
			req.Version, req.Group, req.Topics = v, "g", topics
			g := kmsg.NewOffsetFetchRequestGroup()
			if g.Group = "g"; topics != nil {
				g.Topics = []kmsg.OffsetFetchRequestGroupTopic{}
			}
			req.Groups = append(req.Groups, g)
			resp := handleOffsetFetch(s, t.Context(), nil, req).(*kmsg.OffsetFetchResponse)
			got := len(resp.Topics)
			if v >= 8 {
				got = len(resp.Groups[0].Topics)
			}
			if got != want {
				t.Errorf("version %d: got %d topics, want %d", v, got, want)
			}
		}
	}
}

// FuzzProduce compares our decoder of Produce with kmsg's.
func FuzzProduce(f *testing.F) {
	for v := produceAPI.min; v <= produceAPI.max; v++ {
		req := kmsg.NewPtrProduceRequest()
		req.Version, req.Acks = v, -1
		req.TransactionID = kmsg.StringPtr("x")
		req.Topics = []kmsg.ProduceRequestTopic{{Topic: "t", TopicID: meta.ID{7}, Partitions: []kmsg.ProduceRequestTopicPartition{{Partition: 1, Records: []byte("r")}, {}}}}
		f.Add(v, req.AppendTo(nil))
	}
	f.Fuzz(func(t *testing.T, v int16, b []byte) {
		if v < produceAPI.min || v > produceAPI.max || len(b) > 1000 {
			return
		}
		got, err := decodeProduce(v, b)
		if err != nil {
			return
		}
		want := kmsg.NewPtrProduceRequest()
		want.Version = v
		if err := want.ReadFrom(b); err != nil {
			t.Fatalf("ours takes what kmsg refuses: %v", err)
		}
		if got.acks != want.Acks || len(got.topics) != len(want.Topics) || (got.txn == nil) != (want.TransactionID == nil) || deref(got.txn) != deref(want.TransactionID) {
			t.Fatalf("got %+v, kmsg %+v", got, want)
		}
		for i, wt := range want.Topics {
			if got.topics[i].name != wt.Topic || got.topics[i].id != wt.TopicID || len(got.topics[i].parts) != len(wt.Partitions) {
				t.Fatalf("topic %d: got %+v, kmsg %+v", i, got.topics[i], wt)
			}
			for j, wp := range wt.Partitions {
				if gp := got.topics[i].parts[j]; gp.num != wp.Partition || !bytes.Equal(gp.records, wp.Records) {
					t.Fatalf("partition %d: got %+v, kmsg %+v", j, gp, wp)
				}
			}
		}
	})
}
