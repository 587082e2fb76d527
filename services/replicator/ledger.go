package replicator

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// ledger is how far a link has come, and the producer that moves it.
//
// Exactly once, a lot and the positions behind it are one transaction at the
// destination. Its transactional id is the link's: a producer that starts
// ends what an earlier one left, and fences it should it still live. So after
// open the positions there are final, and all that is there is what they say.
//
// Where the destination grants no transactions, positions are kept on the
// box only, behind acknowledgements: what was on its way at a crash comes
// again.
type ledger struct {
	l     *link
	exact bool

	known   map[string]remembered // of the destination, by positionKey: as read at the start, and committed since
	logged  map[string]remembered // as read; a commit that was answered may still come undone, see left.go
	read    int64                 // offset in the log of positions up to which logged holds it
	timeout time.Duration         // of a transaction
	began   time.Time             // of the transaction under way
	open    bool                  // a transaction is
	commits bool                  // what the destination makes of the last one, see ask

	last time.Time // when a transaction was committed

	// What the destination may have left undecided, see doubt.go.
	cut     *cuts     // of the client
	looked  time.Time // at the signs of it
	touched map[destKey]touch
	doubt   map[destKey]bool
	askAt   time.Time
	tries   int
	blind   sync.Once // told that it does not say

	met       map[string]bool // topics that the producer has sent something to, see rounds
	unsaved   int             // records acknowledged since the last commit on the box
	unsavedAt time.Time
}

const (
	saveRecords = 1000  // acknowledged records are committed on the box when that many wait
	holdRecords = 10000 // nothing more is carried while commits fail
	quietAfter  = time.Minute
)

// errNoTransactions: the destination does not let this link use them.
var errNoTransactions = errors.New("the destination grants no transactions")

// start makes the producer anew and learns the positions.
func (d *ledger) start(ctx context.Context) error {
	l := d.l
	if !d.exact {
		cl, err := l.newDst()
		if err != nil {
			return err
		}
		d.doubt = nil
		l.setDst(cl)
		d.met = map[string]bool{}
		return l.learnDest(ctx)
	}
	for range 4 { // positions, what they know, what they do not, nothing
		left, err := d.startExact(ctx)
		if err != nil || left == nil {
			return err
		}
		if err := l.decide(ctx, left); err != nil {
			return err
		}
	}
	return fmt.Errorf("the destination leaves transactions of %s undecided", l.txnID())
}

// startExact returns what the destination has left undecided of an earlier
// transaction, nil if nothing is.
func (d *ledger) startExact(ctx context.Context) (*undecided, error) {
	l := d.l
	if d.timeout == 0 {
		d.timeout = txnTimeout
	}
	d.cut = new(cuts)
	cl, err := l.newDst(kgo.TransactionalID(l.txnID()), kgo.TransactionTimeout(d.timeout), kgo.WithHooks(d.cut))
	if err != nil {
		return nil, err
	}
	l.setDst(cl)
	d.open = false
	d.last = time.Now() // the first transaction is that of the first records
	d.ask(ctx)
	id, _, err := cl.ProducerID(ctx)
	if err != nil {
		return nil, d.grants(fmt.Errorf("begin as transactional id %s: %w", l.txnID(), err))
	}
	if err := l.ensurePositionLog(ctx); err != nil {
		return nil, d.grants(err)
	}
	if err := l.learnDest(ctx); err != nil {
		return nil, err
	}
	left, err := l.readPositions(ctx, d, id)
	if err != nil {
		return nil, err
	}
	if len(left) > 0 {
		parts, err := l.partitionsOf(ctx, left)
		return &undecided{parts, d.commits}, err
	}
	d.doubtAll()
	hidden, err := d.examine(ctx)
	if err != nil || len(hidden) == 0 {
		return nil, err
	}
	return d.fate(hidden), nil
}

// learnDest asks the destination which cluster it is.
func (l *link) learnDest(ctx context.Context) error {
	got, err := kadm.NewClient(l.dst).BrokerMetadata(ctx)
	if err != nil {
		return fmt.Errorf("ask the destination for its cluster id: %w", err)
	}
	return l.learnPath(got.Cluster)
}

// grants tells a refusal from a destination that is away.
func (d *ledger) grants(err error) error {
	for _, refusal := range []error{
		kerr.TransactionalIDAuthorizationFailed, kerr.ClusterAuthorizationFailed, kerr.TopicAuthorizationFailed,
		kerr.UnsupportedVersion, kerr.PolicyViolation, kerr.UnsupportedForMessageFormat, kerr.SecurityDisabled,
	} {
		if errors.Is(err, refusal) {
			return fmt.Errorf("%w: %w", errNoTransactions, err)
		}
	}
	return err
}

// begin opens a transaction.
func (d *ledger) begin() error {
	if !d.exact {
		return nil
	}
	d.began, d.open = time.Now(), true
	return d.l.dst.BeginTransaction()
}

// commit makes the lot's records and the positions behind them final, or
// none of them; only what a destination without transactions has acknowledged
// stays. Positions behind records of which none was produced go with the next
// transaction.
func (d *ledger) commit(ctx context.Context, ps []*partition) error {
	l := d.l
	if !d.exact {
		for _, p := range ps {
			d.unsaved += int(p.lot.sent.records)
		}
		d.save(ctx, false)
		return nil
	}
	if !d.open {
		return nil
	}
	wait, cancel := l.lasting(ctx)
	defer cancel()
	l.state.waiting(true)
	defer l.state.waiting(false)
	moved := map[*partition]position{}
	for _, p := range l.parts {
		if at := p.after(); at != p.saved && at.next >= 0 {
			moved[p] = at
		}
	}
	if err := l.writePositions(wait, moved); err != nil {
		return fmt.Errorf("write positions: %w", d.why(err))
	}
	epochs := d.epochs(ps)
	if err := l.dst.EndTransaction(wait, kgo.TryCommit); err != nil {
		return fmt.Errorf("commit: %w", d.why(err))
	}
	d.open, d.last = false, time.Now()
	for k, epoch := range epochs {
		d.touched[k] = touch{d.last, epoch}
	}
	for p, at := range moved {
		p.saved = at
		d.known[l.positionKey(p)] = remembered{position: at, id: p.id}
	}
	return nil
}

// why explains a fenced producer: by another with the same name, or by the
// destination, since the transaction took too long.
func (d *ledger) why(err error) error {
	if !errors.Is(err, kerr.ProducerFenced) && !errors.Is(err, kerr.InvalidProducerEpoch) &&
		!errors.Is(err, kerr.InvalidTxnState) && !errors.Is(err, kerr.InvalidProducerIDMapping) {
		return err
	}
	if time.Since(d.began) >= d.timeout {
		d.timeout, d.l.lotSize = min(2*d.timeout, txnMax), lotMin // an uplink that has become slow never carries a lot of before
		return fmt.Errorf("the uplink took longer than the destination keeps a transaction open: %w", err)
	}
	d.l.note("", "another producer took over as "+d.l.txnID()+": does a second replicator run for this site and link?")
	return fmt.Errorf("another producer took over: %w", err)
}

// save commits positions on the box, when it is time to or when now is set.
// Exactly once, these are for people, for tools, and for the day on which
// the destination has lost its own. A transaction that a stop has left without an
// answer is not touched: close ends it.
func (d *ledger) save(ctx context.Context, now bool) {
	l := d.l
	if d.exact && l.opened && !d.open && !d.doubt[destKey{l.positionLog(), 0}] && (now || time.Since(d.last) > quietAfter) {
		d.last = time.Now()
		if err := d.saveQuiet(ctx); err != nil {
			l.broke(err)
		}
	}
	if l.down {
		return
	}
	after := l.pace.save
	if d.exact && l.source != l.dest { // a link from the box to itself: a full disk waits for its group (drop-read)
		after = mirrorAfter
	}
	if !now && d.unsaved < saveRecords && time.Since(d.unsavedAt) < after {
		return
	}
	d.unsavedAt = time.Now() // after an error, the next try is not at once
	err := l.mirror(ctx, d.exact)
	if err == nil {
		d.unsaved = 0
	}
	l.state.box(err)
}

// saveQuiet commits positions behind records that are not carried. It costs
// a transaction of its own, where none has anything to carry for long.
func (d *ledger) saveQuiet(ctx context.Context) error {
	for _, p := range d.l.parts {
		if p.position == p.saved || p.next < 0 || !p.active {
			continue
		}
		if err := d.begin(); err != nil {
			return err
		}
		return d.commit(ctx, nil)
	}
	return nil
}

// held is true while so much is acknowledged and not committed that carrying
// on would make a crash send too much again.
func (d *ledger) held() bool { return !d.exact && d.unsaved >= holdRecords }

// close ends a transaction that is open, so that readers at the destination
// need not wait for it to time out.
func (d *ledger) close(ctx context.Context) {
	if d.exact && d.open && d.l.opened {
		if up, _, _, _ := d.l.state.now(); up {
			_ = d.l.dst.AbortBufferedRecords(ctx)
			_ = d.l.dst.EndTransaction(ctx, kgo.TryAbort)
		}
	}
}
