package server

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"runtime/metrics"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/broker/group"
	"github.com/waysideos/wayside/services/broker/store"
)

// peak returns the most that the heap held while do ran, beyond what it held
// before, in bytes. Some of it may be garbage.
func peak(do func()) int64 {
	heap := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	inUse() // collects
	metrics.Read(heap)
	before := heap[0].Value.Uint64()
	done, most := make(chan struct{}), make(chan uint64)
	go func() {
		var n uint64
		for tick := time.Tick(time.Millisecond); ; {
			select {
			case <-done:
				most <- n
				return
			case <-tick:
				metrics.Read(heap)
				n = max(n, heap[0].Value.Uint64())
			}
		}
	}()
	do()
	close(done)
	return int64(<-most) - int64(before)
}

// bombs are record batches of a record without an end, compressed.
func bombs(t *testing.T) map[string][]byte {
	t.Helper()
	const bomb = 16 << 20
	start := append(binary.AppendVarint(nil, 1<<31-1), 0, 0, 0) // of that length, attributes and deltas 0
	start = append(binary.AppendVarint(start, 1<<30), 'k')      // the key begins
	all := map[string][]byte{}
	squeeze := func(name string, codec int16, n int, by func(io.Writer) io.WriteCloser) {
		var b bytes.Buffer
		w := by(&b)
		w.Write(start)
		for zeros := make([]byte, 1<<20); n > 0; n -= len(zeros) {
			w.Write(zeros)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		all[name] = rawBatch(codec, b.Bytes())
	}
	squeeze("gzip", 1, bomb, func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) })
	squeeze("lz4", 3, bomb, func(w io.Writer) io.WriteCloser {
		z := lz4.NewWriter(w)
		z.Apply(lz4.BlockSizeOption(lz4.Block4Mb))
		return z
	})
	squeeze("zstd", 4, bomb, func(w io.Writer) io.WriteCloser {
		z, err := zstd.NewWriter(w, zstd.WithWindowSize(8<<20), zstd.WithEncoderConcurrency(1))
		if err != nil {
			t.Fatal(err)
		}
		return z
	})
	all["snappy"] = rawBatch(2, s2.EncodeSnappy(nil, append(start, make([]byte, 12<<20)...)))
	all["snappy that lies"] = rawBatch(2, binary.AppendUvarint(nil, 31<<20))
	return all
}

// rawBatch is a batch that says it has one record.
func rawBatch(attributes int16, records []byte) []byte {
	b := kmsg.RecordBatch{
		Length: int32(49 + len(records)), Magic: 2, Attributes: attributes, FirstTimestamp: 1, MaxTimestamp: 1,
		ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1, NumRecords: 1, Records: records,
	}
	raw := b.AppendTo(nil)
	binary.BigEndian.PutUint32(raw[17:], crc32.Checksum(raw[21:], crc32.MakeTable(crc32.Castagnoli)))
	return raw
}

// TestLyingCount: a compressed batch that claims more records than it has is
// refused for good, whatever the topic does with batches.
func TestLyingCount(t *testing.T) {
	one := batchOf(1, 1000, 0)
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	z.Write(one[store.HeaderSize:])
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	lie := rawBatch(1, packed.Bytes())
	binary.BigEndian.PutUint32(lie[23:], 1<<20-1) // last offset delta
	binary.BigEndian.PutUint32(lie[57:], 1<<20)
	binary.BigEndian.PutUint32(lie[17:], crc32.Checksum(lie[21:], crc32.MakeTable(crc32.Castagnoli)))
	s := newServer(t)
	for name, config := range map[string]map[string]string{"plain": nil, "recompressed": {"compression.type": "zstd"}} {
		topic, err := s.Catalog.Create(name, 1, config)
		if err != nil {
			t.Fatal(err)
		}
		if err := produceOne(t, s, 9, nil, name, topic.ID, lie); !errors.Is(err, kerr.InvalidRecord) {
			t.Errorf("%s: got %v, want that it is invalid", name, err)
		}
		if err := produceOne(t, s, 9, nil, name, topic.ID, rawBatch(1, packed.Bytes())); err != nil {
			t.Errorf("%s: one that tells the truth: %v", name, err)
		}
	}
}

// TestBombs: many clients at once send batches that decompress to very much to
// a topic whose records are looked into. All are refused, and few are looked
// into at a time.
func TestBombs(t *testing.T) {
	for _, config := range []map[string]string{{"cleanup.policy": "compact"}, {"compression.type": "gzip"}} {
		for name, b := range bombs(t) {
			if name == config["compression.type"] {
				continue // stays as it is
			}
			t.Run(fmt.Sprint(name, " ", config), func(t *testing.T) {
				s := newServer(t)
				s.Connections, s.RequestBytes, s.memory = 100, 2<<20, newMemory(64<<20)
				if _, err := s.Catalog.Create("c", 1, config); err != nil {
					t.Fatal(err)
				}
				addr := listen(t, s)
				req := kmsg.NewPtrProduceRequest()
				req.Version, req.Acks = 9, -1
				req.Topics = []kmsg.ProduceRequestTopic{{Topic: "c", Partitions: []kmsg.ProduceRequestTopicPartition{{Records: b}}}}
				var wg sync.WaitGroup
				n := peak(func() {
					for range 10 {
						wg.Go(func() {
							c := talker{t, dial(t, addr)}
							c.SetDeadline(time.Now().Add(30 * time.Second))
							resp := kmsg.NewPtrProduceResponse()
							if !c.ask(req, resp) || resp.Topics[0].Partitions[0].ErrorCode == 0 {
								t.Errorf("got %+v, want it refused", resp.Topics)
							}
						})
					}
					wg.Wait()
				})
				t.Logf("%d bytes each, at most %d MB at once", len(b), n>>20)
				if n > 100<<20 {
					t.Errorf("at most %d MB at once, want less", n>>20)
				}
			})
		}
	}
}

// TestFlood: many more connections come than are allowed. Those that were
// there go on, and when the flood is over new ones are served.
func TestFlood(t *testing.T) {
	s := newServer(t)
	s.Connections = 20
	addr := listen(t, s)
	var old []net.Conn
	for range 10 {
		c := dial(t, addr)
		alive(t, c)
		old = append(old, c)
	}
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			for range 50 {
				c, err := net.Dial("tcp", addr)
				if err != nil {
					t.Error(err)
					return
				}
				c.Write([]byte{0, 0, 1}) // half of a size
				time.AfterFunc(time.Duration(rand.IntN(5))*time.Millisecond, func() { c.Close() })
			}
		})
	}
	for range 20 {
		for _, c := range old {
			alive(t, c)
		}
	}
	wg.Wait()
	eventually(t, "a new client is served", func() bool {
		c := dial(t, addr)
		c.Write(frameOf(kmsg.NewPtrMetadataRequest(), 5))
		_, err := answer1(c)
		return err == nil
	})
}

// TestLogOfClosing: every connection that is closed for what it sent leaves a
// line that says which and why; those that leave by themselves leave none.
func TestLogOfClosing(t *testing.T) {
	s := newServer(t)
	var mu sync.Mutex
	var log bytes.Buffer
	s.Log = slog.New(slog.NewTextHandler(locked{&mu, &log}, nil))
	addr := listen(t, s)
	for _, b := range [][]byte{{0x7f, 0xff, 0xff, 0xff}, {0, 0, 0, 10, 0, 99, 0, 0, 0, 0, 0, 1, 0xff, 0xff}, nil} {
		c := dial(t, addr)
		if c.Write(b); b == nil {
			c.(*net.TCPConn).CloseWrite()
		}
		io.Copy(io.Discard, c)
	}
	eventually(t, "all are closed", func() bool { return s.Open() == 0 })
	mu.Lock()
	defer mu.Unlock()
	if got := log.String(); strings.Count(got, "\n") != 2 || strings.Count(got, "client=127.0.0.1:") != 2 || strings.Contains(got, "panic") {
		t.Errorf("got\n%s\nwant two lines", got)
	}
}

type locked struct {
	mu *sync.Mutex
	w  io.Writer
}

func (l locked) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}

// TestGiants: requests that are true and very large are answered, and what
// they ask to be kept is bounded.
func TestGiants(t *testing.T) {
	s := newServer(t)
	s.Connections, s.RequestBytes, s.memory = 100, 8<<20, newMemory(32<<20)
	s.Groups = group.New(group.Options{Meta: s.Meta, Delay: time.Millisecond})
	addr := listen(t, s)
	bystander := dial(t, addr)
	for name, make := range giants() {
		t.Run(name, func(t *testing.T) {
			n := peak(func() {
				var wg sync.WaitGroup
				for i := range 8 {
					wg.Go(func() {
						req := make(i)
						resp := req.ResponseKind()
						c := talker{t, dial(t, addr)}
						c.SetDeadline(time.Now().Add(30 * time.Second))
						c.ask(req, resp) // or the connection is closed
					})
				}
				alive(t, bystander)
				wg.Wait()
			})
			t.Logf("at most %d MB at once", n>>20)
			if n > 200<<20 { // the clients' side is in it
				t.Errorf("at most %d MB at once, want less", n>>20)
			}
			alive(t, bystander)
		})
	}
}

func giants() map[string]func(i int) kmsg.Request {
	name := func(i, j int) string { return fmt.Sprintf("none-%d-%d", i, j) }
	return map[string]func(int) kmsg.Request{
		"JoinGroup with 3 MB of metadata": func(i int) kmsg.Request {
			r := kmsg.NewPtrJoinGroupRequest()
			r.Version, r.Group, r.ProtocolType, r.SessionTimeoutMillis, r.RebalanceTimeoutMillis = 3, name(i, 0), "consumer", 10000, 1000
			r.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range", Metadata: make([]byte, 3<<20)}}
			return r
		},
		"OffsetCommit of 20,000 partitions": func(i int) kmsg.Request {
			r := kmsg.NewPtrOffsetCommitRequest()
			r.Version, r.Group, r.Generation = 7, name(i, 0), -1
			long := strings.Repeat("m", 100)
			for j := range 20000 {
				r.Topics = append(r.Topics, kmsg.OffsetCommitRequestTopic{Topic: name(i, j), Partitions: []kmsg.OffsetCommitRequestTopicPartition{{Metadata: &long}}})
			}
			return r
		},
		"Metadata of 20,000 topics": func(i int) kmsg.Request {
			r := kmsg.NewPtrMetadataRequest()
			r.Version = 9
			for j := range 20000 {
				r.Topics = append(r.Topics, kmsg.MetadataRequestTopic{Topic: kmsg.StringPtr(name(i, j))})
			}
			return r
		},
		"Fetch of 20,000 topics": func(i int) kmsg.Request {
			r := kmsg.NewPtrFetchRequest()
			r.Version, r.MaxWaitMillis, r.SessionEpoch = 12, 100, 0
			for j := range 20000 {
				r.Topics = append(r.Topics, kmsg.FetchRequestTopic{Topic: name(i, j), Partitions: []kmsg.FetchRequestTopicPartition{{}}})
			}
			return r
		},
		"CreateTopics of 1,000,000 partitions": func(i int) kmsg.Request {
			r := kmsg.NewPtrCreateTopicsRequest()
			r.Version, r.TimeoutMillis = 5, 1000
			r.Topics = []kmsg.CreateTopicsRequestTopic{{Topic: name(i, 0), NumPartitions: 1_000_000, ReplicationFactor: 1}}
			return r
		},
		"IncrementalAlterConfigs of 20,000 resources": func(i int) kmsg.Request {
			r := kmsg.NewPtrIncrementalAlterConfigsRequest()
			for j := range 20000 {
				r.Resources = append(r.Resources, kmsg.IncrementalAlterConfigsRequestResource{ResourceType: 2, ResourceName: name(i, j)})
			}
			return r
		},
		"ShareGroupHeartbeat of 1,000 topics": func(i int) kmsg.Request {
			r := kmsg.NewPtrShareGroupHeartbeatRequest()
			r.Version, r.GroupID, r.MemberID = 1, name(i, 0), "m"
			for j := range 1000 {
				r.SubscribedTopicNames = append(r.SubscribedTopicNames, name(i, j)+strings.Repeat("x", 200))
			}
			return r
		},
		"ShareFetch of 19,000 partitions": func(i int) kmsg.Request {
			r := kmsg.NewPtrShareFetchRequest()
			group, member := name(i, 0), "m"
			r.Version, r.GroupID, r.MemberID, r.MaxWaitMillis, r.MaxRecords = 2, &group, &member, 100, 1
			for j := range 19000 {
				r.Topics = append(r.Topics, kmsg.ShareFetchRequestTopic{TopicID: [16]byte{byte(j), byte(j >> 8)}, Partitions: []kmsg.ShareFetchRequestTopicPartition{{}}})
			}
			return r
		},
		"ShareAcknowledge of 100,000 ranges": func(i int) kmsg.Request {
			r := kmsg.NewPtrShareAcknowledgeRequest()
			group, member := name(i, 0), "m"
			r.Version, r.GroupID, r.MemberID, r.ShareSessionEpoch = 2, &group, &member, 1
			p := kmsg.NewShareAcknowledgeRequestTopicPartition()
			for j := range int64(100000) {
				p.AcknowledgementBatches = append(p.AcknowledgementBatches, kmsg.ShareAcknowledgeRequestTopicPartitionAcknowledgementBatch{FirstOffset: 2 * j, LastOffset: 2 * j, AcknowledgeTypes: []int8{1}})
			}
			r.Topics = []kmsg.ShareAcknowledgeRequestTopic{{Partitions: []kmsg.ShareAcknowledgeRequestTopicPartition{p}}}
			return r
		},
		"CreateACLs of 20,000 rules": func(i int) kmsg.Request {
			r := kmsg.NewPtrCreateACLsRequest()
			r.Version = 1
			for j := range 20000 {
				r.Creations = append(r.Creations, kmsg.CreateACLsRequestCreation{ResourceType: 2, ResourceName: name(i, j), ResourcePatternType: 3, Principal: "User:a", Host: "*", Operation: 3, PermissionType: 3})
			}
			return r
		},
	}
}
