package replicator

import (
	"crypto/rand"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// A stop in the middle of a transaction ends it: nothing is saved into it, and
// readers at the destination need not wait until it times out.
func TestStopInATransaction(t *testing.T) {
	t.Parallel()
	dst := cluster(t, kfake.SeedTopics(1, "sensors"))
	l := newTestLink(t, dst)
	d := &l.ledger
	d.timeout = txnMax
	if err := d.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	p := &partition{key: key{l.lanes[0], "sensors", 0}, to: "sensors", position: position{next: 5, epoch: -1, dest: -1}, saved: unknown, active: true}
	l.parts[p.key], l.opened = p, true // behind five records that are not carried
	if err := d.begin(); err != nil {
		t.Fatal(err)
	}
	answered := make(chan error, 1)
	l.dst.Produce(t.Context(), &kgo.Record{Topic: "sensors"}, func(_ *kgo.Record, err error) { answered <- err })
	if err := l.dst.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-answered; err != nil {
		t.Fatal(err)
	}
	l.state.ok()
	d.save(t.Context(), true)
	if p.saved != unknown {
		t.Errorf("position %+v is saved in a transaction that is to be given up", p.saved)
	}
	d.close(t.Context())
	adm := kadm.NewClient(client(t, dst.ListenAddrs()))
	eventually(t, "the transaction is over", func() bool {
		end, err1 := offsetOf(t.Context(), adm.ListEndOffsets, "sensors")
		stable, err2 := offsetOf(t.Context(), adm.ListCommittedOffsets, "sensors")
		return err1 == nil && err2 == nil && stable == end
	})
}

// An uplink that has become slow takes longer for a lot of before than the
// destination keeps a transaction open: the next lot is small, and is given twice
// the time, however many partitions were in the one that failed.
func TestLotTakesTooLong(t *testing.T) {
	t.Parallel()
	l := newTestLink(t, cluster(t))
	d := &l.ledger
	d.timeout, d.began, l.lotSize = txnTimeout, time.Now().Add(-txnTimeout), lotMax
	var ps []*partition
	for num := range int32(5) {
		ps = append(ps, &partition{key: key{l.lanes[0], "sensors", num}, lot: lot{err: kerr.InvalidTxnState}})
	}
	if l.settle(t.Context(), ps) {
		t.Error("the lot counts as carried")
	}
	if len(l.notes) > 0 {
		t.Errorf("notes %v, though nobody else has the link's name", l.notes)
	}
	if d.timeout != 2*txnTimeout || l.lotSize != lotMin {
		t.Errorf("time-out %v, lots of %d bytes, want %v and %d", d.timeout, l.lotSize, 2*txnTimeout, lotMin)
	}
}

// What is read of the log of positions goes over the uplink, and counts.
func TestBytesOfPositionsCount(t *testing.T) {
	t.Parallel()
	dst := cluster(t)
	l := newTestLink(t, dst)
	if err := l.ledger.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	const size = 300_000
	value := make([]byte, size)
	rand.Read(value) // it does not get less by compression
	produce(t, dst.ListenAddrs(), &kgo.Record{Topic: l.positionLog(), Value: value})
	before := l.wire.Load()
	if err := l.ledger.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := l.wire.Load() - before; got < size {
		t.Errorf("%d bytes are counted, a log of %d was read", got, size)
	}
}

// The product of what waits and what was carried does not fit 63 bits.
func TestLagInBytes(t *testing.T) {
	if got := (flow{records: 1e9, bytes: 1e12}).meanOf(1e8); got != 1e11 {
		t.Errorf("1e8 records of 1000 bytes are %d", got)
	}
}
