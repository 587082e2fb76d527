package share

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/broker/catalog"
	"github.com/waysideos/wayside/services/broker/meta"
	"github.com/waysideos/wayside/services/broker/store"
	"github.com/waysideos/wayside/services/vfs"
)

// house is a manager with all that it stands on, over a disk that crashes.
type house struct {
	t     *testing.T
	disk  *vfs.Crashable
	meta  *meta.Store
	cat   *catalog.Catalog
	m     *Manager
	other map[string]bool // ids of groups of another kind
}

// inHouse runs do in a bubble in which time passes only when all wait. There is
// topic "t" of two partitions.
func inHouse(t *testing.T, seed uint64, do func(*house)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h := &house{t: t, disk: vfs.NewCrashable(seed), other: map[string]bool{}}
		h.open()
		defer h.close()
		if _, err := h.cat.Create("t", 2, nil); err != nil {
			t.Fatal(err)
		}
		do(h)
	})
}

func (h *house) open() {
	h.t.Helper()
	var err error
	if h.meta, err = meta.Open(h.disk, "meta"); err != nil {
		h.t.Fatal(err)
	}
	if h.cat, err = catalog.Open(h.disk, h.meta, catalog.Options{Syncer: store.NewSyncer(2, nil), Log: slog.New(slog.DiscardHandler)}); err != nil {
		h.t.Fatal(err)
	}
	h.m = New(Options{Meta: h.meta, Setting: h.cat.BrokerValue, Taken: func(id string) bool { return h.other[id] }})
}

func (h *house) close() {
	h.m.Close()
	h.cat.Close()
	h.meta.Close()
}

// powerCut loses what is not on stable storage, and starts anew.
func (h *house) powerCut() {
	h.t.Helper()
	after := h.disk.CrashClone()
	h.close()
	h.disk = after
	h.open()
}

func (h *house) log(part int32) *store.Log { return h.cat.Get("t").Partitions[part].Log }

func (h *house) key(part int32) Partition { return Partition{h.cat.Get("t").ID, part} }

// append appends a batch of n records to partition 0 of topic "t" and waits for
// the disk. pid 0 is none; others are of open transactions.
func (h *house) append(n int, pid int64) error {
	var records []byte
	for i := range n {
		r := kmsg.Record{OffsetDelta: int32(i)}
		r.Length = int32(len(r.AppendTo(nil)) - 1)
		records = r.AppendTo(records)
	}
	rb := kmsg.RecordBatch{
		Length: int32(49 + len(records)), Magic: 2, LastOffsetDelta: int32(n - 1), FirstTimestamp: 1, MaxTimestamp: 1,
		ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1, NumRecords: int32(n), Records: records,
	}
	if pid > 0 {
		rb.ProducerID, rb.ProducerEpoch, rb.FirstSequence, rb.Attributes = pid, 0, 0, 0x10
	}
	b := rb.AppendTo(nil)
	binary.BigEndian.PutUint32(b[17:], crc32.Checksum(b[21:], crc32.MakeTable(crc32.Castagnoli)))
	head, err := store.Check(b)
	if err != nil {
		h.t.Fatal(err)
	}
	return h.appended(h.log(0).Append(b, head, true))
}

func (h *house) appended(a store.Appended, err error) error {
	if err != nil {
		return err
	}
	return h.log(0).Wait(h.t.Context(), a.Next)
}

func (h *house) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) set(name, value string) {
	h.t.Helper()
	h.must(h.cat.EditGroup("g", false, func(m map[string]string) error { m[name] = value; return nil }))
}

// session begins a session of group "g" that fetches partition 0.
func (h *house) session(member string) *Session {
	h.t.Helper()
	s, err := h.m.Open(h, "g", member)
	h.must(err)
	h.must(s.Add(h.key(0)))
	return s
}

// take acquires up to n records in partition 0.
func (h *house) take(s *Session, n int64) ([]Range, error) {
	var got Taken
	var err error
	s.Look(func(p *Part) (bool, bool) {
		if got, err = p.Take(h.log(0), Want{Records: n, Bytes: 1 << 20, One: true}); got.Records != nil {
			got.Records.Release()
		}
		return true, false
	})
	if err == nil {
		err = <-h.m.Settled()
	}
	return got.Ranges, err
}

// got is take, written.
func (h *house) got(s *Session, n int64) string {
	h.t.Helper()
	ranges, err := h.take(s, n)
	h.must(err)
	return strings.Trim(fmt.Sprint(ranges), "[]")
}

func (h *house) ack(s *Session, acks ...Ack) error {
	if err := s.Acknowledge(h.key(0), h.log(0), acks, true); err != nil {
		return err
	}
	return <-h.m.Settled()
}

func (h *house) want(what, got, want string) {
	h.t.Helper()
	if got != want {
		h.t.Errorf("%s: got %q, want %q", what, got, want)
	}
}
