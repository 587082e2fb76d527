package txn_test

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/broker/catalog"
	"github.com/waysideos/wayside/services/broker/meta"
	"github.com/waysideos/wayside/services/broker/store"
	"github.com/waysideos/wayside/services/broker/txn"
	"github.com/waysideos/wayside/services/vfs"
)

// machine is a broker without its network.
type machine struct {
	t    *testing.T
	fsys *vfs.Crashable
	meta *meta.Store
	cat  *catalog.Catalog
	c    *txn.Coordinator
	bump bool
	seqs map[int32]int32 // next sequence, by partition
	id   int64
	ep   int16
}

const crashParts = 3

func boot(t *testing.T, fsys *vfs.Crashable, bump bool, durability string) *machine {
	t.Helper()
	m := &machine{t: t, fsys: fsys, bump: bump, seqs: map[int32]int32{}}
	log := slog.New(slog.DiscardHandler)
	var err error
	if m.meta, err = meta.Open(fsys, "meta"); err != nil {
		t.Fatal(err)
	}
	if m.cat, err = catalog.Open(fsys, m.meta, catalog.Options{Syncer: store.NewSyncer(4, nil), Log: log}); err != nil {
		t.Fatal(err)
	}
	if m.cat.Get("t") == nil {
		if _, err := m.cat.Create("t", crashParts, map[string]string{"wayside.durability": durability}); err != nil {
			t.Fatal(err)
		}
	}
	m.c = txn.Open(txn.Config{Meta: m.meta, Logs: txn.Catalog(m.cat), Log: log})
	return m
}

func (m *machine) halt() {
	m.c.Close()
	m.cat.Close()
	m.meta.Close()
}

// begin takes the transactional id over.
func (m *machine) begin(ctx context.Context) (err error) {
	for {
		m.id, m.ep, err = m.c.Init(ctx, txn.Init{Txn: "x", Timeout: time.Minute, ID: -1, Epoch: -1})
		m.seqs = map[int32]int32{}
		if !errors.Is(err, kerr.ConcurrentTransactions) {
			return err
		}
	}
}

// transact writes value to every partition and commits an offset with it.
func (m *machine) transact(ctx context.Context, value int, commit bool) error {
	return m.transactThen(ctx, value, commit, func() {})
}

// transactThen calls before before it ends the transaction.
func (m *machine) transactThen(ctx context.Context, value int, commit bool, before func()) error {
	p := txn.Producer{Txn: "x", ID: m.id, Epoch: m.ep}
	t := m.cat.Get("t")
	var refs []meta.TxnPartition
	for i := range int32(crashParts) {
		refs = append(refs, meta.TxnPartition{Topic: t.ID, Partition: i})
	}
	if !m.bump {
		if err := m.c.Add(ctx, p, refs); err != nil {
			return err
		}
	}
	for i := range int32(crashParts) {
		if err := m.put(ctx, p, refs[i:i+1], t.Partitions[i].Log, fmt.Sprint(value)); err != nil {
			return err
		}
	}
	if !m.bump {
		if err := m.c.AddGroup(ctx, p, "g"); err != nil {
			return err
		}
	}
	offs := []meta.Offset{{Topic: "t", Offset: int64(value)}, {Topic: "t", Partition: 1, Offset: int64(value)}}
	if err := m.c.CommitOffsets(ctx, p, "g", offs, m.bump); err != nil {
		return err
	}
	before()
	id, ep, err := m.c.End(ctx, txn.End{Producer: p, Commit: commit, Bump: m.bump})
	if err == nil {
		if ep != m.ep {
			m.seqs = map[int32]int32{}
		}
		m.id, m.ep = id, ep
	}
	return err
}

func (m *machine) put(ctx context.Context, p txn.Producer, ref []meta.TxnPartition, l *store.Log, value string) error {
	leave, err := m.c.Append(ctx, p, ref, m.bump)
	if err != nil {
		return err
	}
	defer leave()
	b := batch(p, m.seqs[ref[0].Partition], value)
	m.seqs[ref[0].Partition]++
	h, err := store.Check(b)
	if err != nil {
		m.t.Fatal(err)
	}
	a, err := l.Append(b, h, true)
	if err != nil {
		return err
	}
	return l.Wait(ctx, a.Next)
}

func batch(p txn.Producer, seq int32, value string) []byte {
	r := kmsg.Record{Value: []byte(value)}
	r.Length = int32(len(r.AppendTo(nil)) - 1)
	b := kmsg.RecordBatch{
		PartitionLeaderEpoch: -1, Magic: 2, Attributes: 0x10, ProducerID: p.ID, ProducerEpoch: p.Epoch,
		FirstSequence: seq, NumRecords: 1, Records: r.AppendTo(nil), FirstTimestamp: 1, MaxTimestamp: 1,
	}
	b.Length = int32(len(b.AppendTo(nil)) - 12)
	raw := b.AppendTo(nil)
	binary.BigEndian.PutUint32(raw[17:], crc32.Checksum(raw[21:], crc32.MakeTable(crc32.Castagnoli)))
	return raw
}

// committed returns the values that a read_committed consumer of a partition
// sees, and whether a transaction is open there.
func (m *machine) committed(part int) (out []string, open bool) {
	m.t.Helper()
	l := m.cat.Get("t").Partitions[part].Log
	start, stable, hw := l.Bounds3()
	aborted, err := l.Aborted(start, stable)
	if err != nil {
		m.t.Fatal(err)
	}
	for off := start; off < stable; {
		s, err := l.ReadCommitted(off, 1<<20, true)
		if err != nil || s == nil {
			m.t.Fatalf("partition %d at %d of %d: %v, %v", part, off, stable, s, err)
		}
		b := make([]byte, s.Len())
		if err := s.ReadAt(b, 0); err != nil {
			m.t.Fatal(err)
		}
		s.Release()
		for len(b) > 0 {
			var rb kmsg.RecordBatch
			if err := rb.ReadFrom(b); err != nil {
				m.t.Fatal(err)
			}
			gone := slices.ContainsFunc(aborted, func(a store.AbortedTxn) bool {
				return a.ProducerID == rb.ProducerID && a.FirstOffset <= rb.FirstOffset && rb.FirstOffset <= a.LastOffset
			})
			if rb.Attributes&0x20 == 0 && !gone {
				var r kmsg.Record
				if err := r.ReadFrom(rb.Records); err != nil {
					m.t.Fatal(err)
				}
				out = append(out, string(r.Value))
			}
			off = rb.FirstOffset + int64(rb.LastOffsetDelta) + 1
			b = b[12+rb.Length:]
		}
	}
	return out, stable < hw
}

// TestCrash pulls the plug at every operation on the disk while transactions
// run: each is whole or not at all, in every partition and with its offsets,
// as it was answered; and the next goes on.
func TestCrash(t *testing.T) {
	for name, bump := range map[string]bool{"before KIP-890": false, "since KIP-890": true} {
		t.Run(name, func(t *testing.T) {
			instants := crashAt(t, 1, 1<<30, bump, "sync")
			if instants < 40 {
				t.Fatalf("%d operations on the disk: nothing was tried", instants)
			}
			for seed := range uint64(3) {
				for at := range instants {
					crashAt(t, seed, at, bump, "sync")
				}
			}
		})
	}
}

// TestCrashWithoutSync: where a topic's acknowledgements wait for no sync,
// records and markers may be lost, but nothing hangs.
func TestCrashWithoutSync(t *testing.T) {
	instants := crashAt(t, 1, 1<<30, true, "write")
	for seed := range uint64(3) {
		for at := range instants {
			crashAt(t, seed, at, true, "write")
		}
	}
}

// TestMarkerIsOwed: a disk that fails under one partition while a transaction
// ends does not undo it there.
func TestMarkerIsOwed(t *testing.T) {
	for seed := range uint64(20) {
		m := boot(t, vfs.NewCrashable(seed), true, "sync")
		if err := m.begin(t.Context()); err != nil {
			t.Fatal(err)
		}
		before := func() {
			m.fsys.SetHook(func(op vfs.Op, name string) error {
				if op == vfs.OpSync && strings.Contains(name, "t-1/") {
					return syscall.EIO
				}
				return nil
			})
		}
		if err := m.transactThen(t.Context(), 1, true, before); err != nil {
			t.Fatal(err)
		}
		if n := len(m.meta.OwedMarkers()); n != 1 {
			t.Fatalf("seed %d: %d markers are owed, want 1", seed, n)
		}
		m.fsys.SetHook(nil)
		m.halt()
		m = boot(t, m.fsys.Crash(), true, "sync")
		m.verify(fmt.Sprint("seed ", seed), map[int]bool{1: true}, 1)
		if n := len(m.meta.OwedMarkers()); n != 0 {
			t.Fatalf("seed %d: %d markers are owed after the start, want 0", seed, n)
		}
		m.halt()
	}
}

// crashAt crashes at one instant and returns how many there were.
func crashAt(t *testing.T, seed uint64, at int64, bump bool, durability string) int64 {
	t.Helper()
	m := boot(t, vfs.NewCrashable(seed), bump, durability)
	if err := m.begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	var ops atomic.Int64
	var after atomic.Pointer[vfs.Crashable]
	m.fsys.SetHook(func(op vfs.Op, _ string) error {
		if op != vfs.OpRead && ops.Add(1)-1 == at {
			after.Store(m.fsys.Crash())
		}
		return nil
	})
	const all = 5
	outcome := map[int]bool{} // answered: committed or not
	reached := 0
	for i := 1; i <= all; i++ {
		reached = i
		if err := m.transact(t.Context(), i, i%3 != 2); err != nil {
			break
		}
		outcome[i] = i%3 != 2
	}
	m.fsys.SetHook(nil)
	if after.Load() == nil {
		after.Store(m.fsys.Crash())
	}
	m.halt()
	m = boot(t, after.Load(), bump, durability)
	defer m.halt()
	where := fmt.Sprintf("seed %d, instant %d, in transaction %d", seed, at, reached)
	last := -1
	m.nothingHangs(where)
	if durability == "sync" {
		last = m.verify(where, outcome, reached)
	}
	if err := m.begin(t.Context()); err != nil {
		t.Fatalf("%s: begin again: %v", where, err)
	}
	if err := m.transact(t.Context(), 99, true); err != nil {
		t.Fatalf("%s: another transaction: %v", where, err)
	}
	for p := range crashParts {
		if got, open := m.committed(p); open || got[len(got)-1] != "99" || last >= 0 && len(got) != last+1 {
			t.Fatalf("%s: partition %d: after another transaction %v, open %v", where, p, got, open)
		}
	}
	return ops.Load()
}

// nothingHangs checks that what is open in a partition is open altogether.
func (m *machine) nothingHangs(where string) {
	m.t.Helper()
	x, _, _ := m.c.Describe("x")
	for p := range crashParts {
		if _, open := m.committed(p); open && x.State != meta.TxnOngoing || x.State.Ending() {
			m.t.Fatalf("%s: state %s after the start, open in partition %d: %v", where, x.State, p, open)
		}
	}
}

// verify returns how many transactions are committed.
func (m *machine) verify(where string, outcome map[int]bool, reached int) int {
	m.t.Helper()
	want, _ := m.committed(0)
	for p := 1; p < crashParts; p++ {
		if got, _ := m.committed(p); !slices.Equal(got, want) {
			m.t.Fatalf("%s: partition %d has %v, partition 0 has %v", where, p, got, want)
		}
	}
	for i := 1; i <= reached; i++ {
		there := slices.Contains(want, fmt.Sprint(i))
		if commit, answered := outcome[i]; answered && there != commit || !answered && there && i%3 == 2 {
			m.t.Fatalf("%s: transaction %d: there %v, answered %v", where, i, there, outcome)
		}
	}
	var newest int64
	if len(want) > 0 {
		fmt.Sscan(want[len(want)-1], &newest)
	}
	for p := range int32(2) {
		o, ok := m.meta.Offset("g", "t", p)
		if ok != (newest > 0) || cmp.Compare(o.Offset, newest) != 0 {
			m.t.Fatalf("%s: offset %d of partition %d, records up to %d", where, o.Offset, p, newest)
		}
	}
	return len(want)
}
