package connect

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/kafka"
)

// Positions are records of a compacted topic of one partition on the box,
// docs/formats/connect-positions.md: the key is the connector's name. They
// are not a group's offsets, which are forgotten when nobody was there for a
// week, and they stand in one transaction with the records before them.
const (
	ownPrefix       = "wayside-connect." // begins the names of our own topics, groups and transactional ids
	positionVersion = 1
	adminWait       = 30 * time.Second
	txnTimeout      = time.Minute
)

type positionRecord struct {
	Version  int    `json:"v"`
	Position []byte `json:"position"` // base64; what it means is the protocol's
}

func (k *broker) positionTopic() string { return ownPrefix + k.cfg.Site }

// ledger is the producer of one connector's transactions, and what it knows.
// A producer that starts ends what an earlier one left and fences it should
// it still live: after open the position in the log is final.
type ledger struct {
	cl   *kgo.Client // nil: to be opened
	last []byte
}

func (a *account) open(ctx context.Context) error {
	cl, err := kafka.NewClient(a.config(), append(a.producing(),
		kgo.TransactionalID(ownPrefix+a.cfg.Site+"."+a.name), kgo.TransactionTimeout(txnTimeout))...)
	if err != nil {
		return err
	}
	err = func() error {
		if _, _, err := cl.ProducerID(ctx); err != nil {
			return fmt.Errorf("begin transactions: %w", err)
		}
		if err := a.ensure(ctx, a.positionTopic(), map[string]string{
			"cleanup.policy": "compact", "segment.bytes": "1048576", "min.cleanable.dirty.ratio": "0.1",
		}); err != nil {
			return err
		}
		last, err := a.readPosition(ctx)
		a.ledger.last = last
		return err
	}()
	if err != nil {
		cl.Close()
		return err
	}
	a.ledger.cl = cl
	return nil
}

// readPosition reads the log to its end.
func (a *account) readPosition(ctx context.Context) (last []byte, err error) {
	err = a.tail(ctx, a.positionTopic(), 0, func(r *kgo.Record) {
		var p positionRecord
		if string(r.Key) == a.name && json.Unmarshal(r.Value, &p) == nil && p.Version == positionVersion {
			last = p.Position
		}
	})
	return last, err
}

// tail reads the last n offsets of each partition, all for 0, up to the end.
// What is committed may lie behind another's open transaction: that is waited
// for.
func (k *broker) tail(ctx context.Context, topic string, n int64, do func(*kgo.Record)) error {
	ctx, cancel := context.WithTimeout(ctx, adminWait)
	defer cancel()
	adm := kadm.NewClient(k.cl)
	ends, err1 := adm.ListEndOffsets(ctx, topic)
	starts, err2 := adm.ListStartOffsets(ctx, topic)
	if err := errors.Join(err1, err2, ends.Error(), starts.Error()); err != nil {
		return fmt.Errorf("list offsets of %s: %w", topic, err)
	}
	from, left := map[int32]kgo.Offset{}, map[int32]int64{}
	ends.Each(func(end kadm.ListedOffset) {
		start, _ := starts.Lookup(topic, end.Partition)
		at := start.Offset
		if n > 0 {
			at = max(at, end.Offset-n)
		}
		if at < end.Offset {
			from[end.Partition], left[end.Partition] = kgo.NewOffset().At(at), end.Offset
		}
	})
	if len(left) == 0 {
		return nil
	}
	cl, err := kafka.NewClient(k.config(), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: from}),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords())
	if err != nil {
		return err
	}
	defer cl.Close()
	for len(left) > 0 {
		fs := cl.PollFetches(ctx)
		if err := fs.Err(); err != nil {
			return fmt.Errorf("read %s: %w", topic, err)
		}
		fs.EachRecord(func(r *kgo.Record) {
			if r.Offset+1 >= left[r.Partition] {
				delete(left, r.Partition)
			}
			if !r.Attrs.IsControl() {
				do(r)
			}
		})
	}
	return nil
}

// forget makes the next use begin anew: what became of a transaction is only
// known after that.
func (a *account) forget() {
	if a.ledger.cl != nil {
		a.ledger.cl.Close()
	}
	a.ledger = ledger{}
}

func (a *account) position(ctx context.Context) ([]byte, error) {
	a.ledgerMu.Lock()
	defer a.ledgerMu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, adminWait)
	defer cancel()
	if a.ledger.cl == nil {
		if err := a.open(ctx); err != nil {
			return nil, fmt.Errorf("read position of %s: %w", a.name, err)
		}
	}
	return a.ledger.last, nil
}

// refusedError is a record that the broker refuses for good.
type refusedError struct {
	i   int
	err error
}

func (r refusedError) Error() string { return r.err.Error() }
func (r refusedError) Unwrap() error { return r.err }

func (a *account) commit(ctx context.Context, position []byte, rs []*kgo.Record) error {
	a.ledgerMu.Lock()
	defer a.ledgerMu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, 2*txnTimeout)
	defer cancel()
	err := a.transact(ctx, position, rs, false)
	if missing(err) && a.makeDeadLetters(ctx, rs) {
		err = a.transact(ctx, position, rs, false)
	}
	if permanent(err) && len(rs) > 1 {
		// The broker refuses whole batches: find out whose fault it is.
		err = a.transact(ctx, position, rs, true)
	}
	return err
}

// makeDeadLetters makes the topics of dead letters, where the broker makes none
// on demand.
func (a *account) makeDeadLetters(ctx context.Context, rs []*kgo.Record) (made bool) {
	for _, r := range rs {
		if ownDeadLetters(r.Topic) && a.ensure(ctx, r.Topic, nil) == nil {
			made = true
		}
	}
	return made
}

// transact is one transaction; with alone every record is a batch of its own.
func (a *account) transact(ctx context.Context, position []byte, rs []*kgo.Record, alone bool) (err error) {
	if a.ledger.cl == nil {
		if err := a.open(ctx); err != nil {
			return err
		}
	}
	defer func() {
		if err != nil {
			a.forget()
		}
	}()
	cl := a.ledger.cl
	if err := cl.BeginTransaction(); err != nil {
		return err
	}
	value, err := json.Marshal(positionRecord{positionVersion, position})
	if err != nil {
		return err
	}
	all := append(rs[:len(rs):len(rs)], &kgo.Record{Topic: a.positionTopic(), Key: []byte(a.name), Value: value})
	errs := make([]error, len(all)) // written by promises, read after a Flush
	for i, r := range all {
		r.Context = nil // of an earlier try, which has ended
		cl.Produce(ctx, r, func(_ *kgo.Record, err error) { errs[i] = err })
		if alone {
			if err = cl.Flush(ctx); err != nil {
				return err
			}
			if errs[i] != nil {
				break
			}
		}
	}
	if err := cl.Flush(ctx); err != nil {
		return err
	}
	for i, e := range errs {
		if permanent(e) && i < len(rs) {
			err = refusedError{i, e}
			break
		}
		err = errors.Join(err, e)
	}
	if err != nil {
		_ = cl.EndTransaction(ctx, kgo.TryAbort)
		return err
	}
	if err := cl.EndTransaction(ctx, kgo.TryCommit); err != nil {
		return err
	}
	a.ledger.last = position
	return nil
}

// ParsePosition decodes a position that is kept as JSON with a version into p,
// whose version is *version. Of no data p stays as it is.
func ParsePosition(data []byte, p any, version *int) error {
	if data == nil {
		return nil
	}
	known := *version
	if err := json.Unmarshal(data, p); err != nil || *version != known {
		return fmt.Errorf("the kept position is of version %d, which this release does not know: %v", *version, err)
	}
	return nil
}

// ensure makes a topic of ours if it is absent.
func (p *Producer) ensure(ctx context.Context, topic string, config map[string]string) error {
	ctx, cancel := context.WithTimeout(ctx, adminWait)
	defer cancel()
	if err := kafka.EnsureTopic(ctx, p.cl, topic, config); err != nil {
		return fmt.Errorf("create topic %s: %w", topic, err)
	}
	return nil
}
