// Package txn is the coordinator of transactions: which transactional id has
// which producer id and epoch, what belongs to its open transaction, and how
// that ends (KIP-98, 360, 447, 890).
//
// What it knows is in the broker's journal (package meta); here are the rules,
// the clocks and the writing of markers. One transition is one durable change.
//
// The end of a transaction is answered when its markers are on disk and its
// offsets are the group's. Apache Kafka answers as soon as the decision is
// logged, and a client that goes on at once meets CONCURRENT_TRANSACTIONS in
// its next transaction and the old state in what it reads. There the markers
// lie on other brokers; here they are a sync away, which costs less than the
// shortest pause of any client. Whatever comes meanwhile for the same id waits
// too. If the disk is full or slow, Patience bounds the waiting, and everybody
// gets Kafka's answers.
package txn

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/waysideos/wayside/services/broker/meta"
	"github.com/waysideos/wayside/services/broker/store"
)

// ErrNotAdded: the partition or group is not in the producer's transaction.
var ErrNotAdded = errors.New("not added to the transaction")

// ErrGone is what Logs says of a partition whose topic was deleted.
var ErrGone = errors.New("topic was deleted")

// Bounds of what clients may ask for.
const (
	maxIDLength  = 1024   // of a transactional id, in bytes
	maxIDs       = 10_000 // beyond it the longest unused is forgotten
	maxGroups    = 1000   // of one transaction
	lastEpoch    = math.MaxInt16
	epochsUsedUp = lastEpoch - 1 // the last epoch is for fencing
)

// Log is what the coordinator needs of a partition log.
type Log interface {
	AppendMarker(pid int64, epoch int16, commit bool, coordinatorEpoch int32) (store.Appended, error)
	Wait(ctx context.Context, offset int64) error
	// OpenTxn reports whether a producer has an open transaction in the log,
	// and the newest epoch that was seen of it.
	OpenTxn(pid int64) (epoch int16, open bool)
}

// Logs finds partition logs.
type Logs interface {
	// Log returns a log; ErrGone when the topic was deleted, any other error
	// when the partition is not open.
	Log(p meta.TxnPartition) (Log, error)
	// Open goes through the transactions that have no marker yet, log by log;
	// each log has to be recovered first. It ends early with ctx.
	Open(ctx context.Context) iter.Seq[OpenTxn]
}

// OpenTxn is a producer's open transaction in one partition.
type OpenTxn struct {
	meta.TxnPartition
	ProducerID int64
}

// Config of a coordinator. Meta, Logs and Log are required.
type Config struct {
	Meta *meta.Store
	Logs Logs
	Log  *slog.Logger
	// MaxTimeout is transaction.max.timeout.ms; default 15 minutes.
	MaxTimeout time.Duration
	// Expiry is how long an id may be unused before it is forgotten
	// (transactional.id.expiration.ms); default 7 days. It is counted in time
	// that the broker has run, so that no clock that jumps makes it pass.
	Expiry time.Duration
	// Patience is how long a request waits for the end of a transaction;
	// default 5 s.
	Patience time.Duration
}

// Coordinator is safe for concurrent use. Errors that its methods return are
// of package kerr, ErrNotAdded, or the journal's.
type Coordinator struct {
	cfg  Config
	ctx  context.Context // ends at Close
	stop context.CancelFunc
	wg   sync.WaitGroup
	left atomic.Pointer[owners] // nil when all logs were looked through, see hanging.go

	mu  sync.RWMutex
	ids map[string]*entry
}

// entry is what is known of a transactional id for this run only.
type entry struct {
	// mu is held for reading while records of the transaction are appended,
	// and for writing through a transition, its sync included: no record can
	// follow the marker of its own transaction.
	mu       sync.RWMutex
	gone     bool          // forgotten: look it up again
	ended    chan struct{} // closed when the decided end is everywhere; nil when none is under way
	deadline time.Time     // when the open transaction is aborted
	used     time.Time     // last
}

// Open returns a coordinator, having finished what a crash left half done. A
// marker that cannot be written now is written as soon as it can be. Only the
// logs are recovered for it that have a transaction to be ended.
func Open(cfg Config) *Coordinator {
	orDefault(&cfg.MaxTimeout, 15*time.Minute)
	orDefault(&cfg.Expiry, 7*24*time.Hour)
	orDefault(&cfg.Patience, 5*time.Second)
	c := &Coordinator{cfg: cfg, ids: map[string]*entry{}}
	c.ctx, c.stop = context.WithCancel(context.Background())
	c.payOwed()
	now := time.Now()
	var ends []chan struct{}
	for _, t := range cfg.Meta.Txns() {
		e := &entry{used: now, deadline: now.Add(timeoutOf(t))}
		c.ids[t.ID] = e
		if t.State.Ending() {
			ends = append(ends, c.finish(e, t))
		}
	}
	c.awaitAll(ends)
	left := ownersOf(cfg.Meta.Txns())
	c.left.Store(&left)
	c.wg.Go(c.endHanging)
	c.wg.Go(c.watch)
	return c
}

func orDefault(d *time.Duration, v time.Duration) {
	if *d == 0 {
		*d = v
	}
}

func (c *Coordinator) awaitAll(ends []chan struct{}) {
	patience := time.After(c.cfg.Patience)
	for _, end := range ends {
		select {
		case <-end:
		case <-patience:
			return
		}
	}
}

// Close waits for what runs. Ends that are decided and not everywhere yet are
// finished at the next start.
func (c *Coordinator) Close() {
	c.stop()
	c.wg.Wait()
}

func timeoutOf(t meta.Txn) time.Duration { return time.Duration(t.TimeoutMs) * time.Millisecond }

// Producer is who a client says it is.
type Producer struct {
	Txn   string // transactional id
	ID    int64
	Epoch int16
}

// next reports whether a producer is the one of the transaction that follows
// the one that is ending: it was answered before the end was everywhere.
func (p Producer) next(t meta.Txn) bool {
	switch {
	case !t.State.Ending():
		return false
	case t.NextProducerID >= 0:
		return p.ID == t.NextProducerID && p.Epoch == 0
	}
	return p.ID == t.ProducerID && p.Epoch == t.Epoch
}

// owns checks a producer against its transactional id.
func (p Producer) owns(t meta.Txn) error {
	switch {
	case p.next(t):
	case t.ProducerID < 0 || p.ID != t.ProducerID:
		return kerr.InvalidProducerIDMapping
	case p.Epoch != t.Epoch:
		return kerr.ProducerFenced
	}
	return nil
}

func (c *Coordinator) entry(id string) *entry {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.ids[id]
}

// get returns what is known of an id; one that is new has no producer id.
func (c *Coordinator) get(id string) meta.Txn {
	if t, ok := c.cfg.Meta.Txn(id); ok {
		return t
	}
	return meta.Txn{
		ID: id, State: meta.TxnEmpty, ProducerID: -1, Epoch: -1,
		LastEpoch: -1, PrevProducerID: -1, NextProducerID: -1, StartMs: -1,
	}
}

// hold locks an id for a change if fit passes its state. While the end of a
// transaction is under way it waits; ConcurrentTransactions when that takes
// too long. The caller unlocks.
func (c *Coordinator) hold(ctx context.Context, id string, fit func(meta.Txn) error) (*entry, meta.Txn, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Patience)
	defer cancel()
	for {
		e := c.entry(id)
		if e == nil {
			return nil, meta.Txn{}, kerr.InvalidProducerIDMapping
		}
		e.mu.Lock()
		t := c.get(id)
		err := fit(t)
		if err == nil && !e.gone && !t.State.Ending() {
			e.used = time.Now()
			return e, t, nil
		}
		ended, gone := e.ended, e.gone
		e.mu.Unlock()
		switch {
		case gone:
			continue
		case err != nil:
			return nil, meta.Txn{}, err
		case ended == nil: // it could not be completed; the next start does
			return nil, meta.Txn{}, kerr.CoordinatorNotAvailable
		}
		select {
		case <-ended:
		case <-ctx.Done():
			return nil, meta.Txn{}, kerr.ConcurrentTransactions
		}
	}
}

// Pending reports whether a transaction that is not over has an offset of a
// group in a partition (KIP-447).
func (c *Coordinator) Pending(group, topic string, partition int32) bool {
	return c.cfg.Meta.PendingOffset(group, topic, partition)
}

// List returns all transactional ids, sorted.
func (c *Coordinator) List() []meta.Txn { return c.cfg.Meta.Txns() }

// Describe returns a transactional id and the partitions of its transaction.
func (c *Coordinator) Describe(id string) (meta.Txn, []meta.TxnPartition, bool) {
	t, ok := c.cfg.Meta.Txn(id)
	return t, c.cfg.Meta.TxnPartitions(id), ok
}
