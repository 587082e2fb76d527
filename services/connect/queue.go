package connect

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/connect/spool"
	"github.com/waysideos/wayside/services/vfs"
)

// Of a queue.
const (
	spillAfter = time.Second // a record that the broker has not taken by then goes to disk
	lotBytes   = 1 << 20     // given to the broker at once
	stopGrace  = 2 * time.Second
	readAgain  = time.Second // after a spool could not be read
)

// queue holds spooled records until the broker has them, in order: what is on
// disk first, then the lot under way if it came from memory, then memory.
type queue struct {
	state *state
	log   *slog.Logger
	wake  chan struct{} // has one when there may be something to do

	diskMu sync.Mutex // taken before mu
	disk   *spool.Spool

	mu     sync.Mutex
	max    int64 // bytes of mem
	mem    []*kgo.Record
	bytes  int64 // of mem
	since  time.Time
	flight flight
	told   time.Time // when a loss was last logged
}

// flight is the lot that the broker is asked to take.
type flight struct {
	recs  []*kgo.Record
	disk  bool   // they are on disk too
	first uint64 // number of the first there
}

func newQueue(max int64, s *state, log *slog.Logger) *queue {
	return &queue{max: max, state: s, log: log, wake: make(chan struct{}, 1)}
}

func (q *queue) resize(max int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.max = max
}

// open finds what an earlier run has left.
func (q *queue) open(fsys vfs.FS, dir string, bound int64) error {
	disk, damaged, err := spool.Open(fsys, dir, bound)
	if err != nil {
		return err
	}
	if damaged > 0 {
		q.log.Warn("spool was not closed, or is damaged: what could be read of it is sent", "files", damaged)
	}
	q.diskMu.Lock()
	defer q.diskMu.Unlock()
	q.disk = disk
	q.tell(0)
	return nil
}

// put takes a record; it may wait for the disk, never for the broker.
func (q *queue) put(r *kgo.Record) {
	q.mu.Lock()
	if len(q.mem) == 0 && (len(q.flight.recs) == 0 || q.flight.disk) {
		q.since = time.Now()
	}
	q.mem = append(q.mem, r)
	q.bytes += cost(r)
	full := q.bytes > q.max
	q.mu.Unlock()
	if full {
		q.spill()
	}
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

func cost(r *kgo.Record) int64 { return size(r) + recordCost }

// spill moves what is only in memory to disk. Where that cannot be, the
// oldest beyond the bound go.
func (q *queue) spill() {
	q.diskMu.Lock()
	defer q.diskMu.Unlock()
	q.mu.Lock()
	lot, mem, bytes := []*kgo.Record(nil), q.mem, q.bytes
	flying := len(q.flight.recs) > 0 && !q.flight.disk
	if flying {
		lot = append(lot, q.flight.recs...)
	}
	lot = append(lot, mem...)
	q.mem, q.bytes, q.since = nil, 0, time.Now()
	q.mu.Unlock()
	if len(lot) == 0 {
		return
	}
	var dropped int64
	err := errNoDisk
	if q.disk != nil {
		first := q.disk.Next()
		dropped, err = q.disk.Append(lot)
		if err == nil && flying {
			q.mu.Lock()
			q.flight.disk, q.flight.first = true, first
			q.mu.Unlock()
		}
	}
	if err != nil {
		q.mu.Lock()
		q.mem, q.bytes = append(mem, q.mem...), bytes+q.bytes
		for q.bytes > q.max && len(q.mem) > 1 {
			q.bytes -= cost(q.mem[0])
			q.mem = q.mem[1:]
			dropped++
		}
		q.mu.Unlock()
	}
	q.lost(dropped, err)
	q.tell(dropped)
}

var errNoDisk = errors.New("there is no disk to spool on")

// lost tells of dropped records, once a minute.
func (q *queue) lost(dropped int64, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if dropped == 0 && (err == nil || errors.Is(err, errNoDisk)) || time.Since(q.told) < time.Minute {
		return
	}
	q.told = time.Now()
	if err == nil {
		err = errors.New("the spool is full")
	}
	q.log.Warn("records are lost, or may be", "oldest dropped", dropped, "error", err)
}

// tell updates the count of what waits; diskMu is held.
func (q *queue) tell(dropped int64) {
	q.mu.Lock()
	n, kept := int64(len(q.mem)), int64(0)
	q.mu.Unlock()
	if q.disk != nil {
		kept = q.disk.Len()
	}
	q.state.waits(n+kept, kept, dropped)
}

// run gives records to the broker until ctx ends, and puts what is left on
// disk.
func (q *queue) run(ctx context.Context, b *Box) {
	var wg sync.WaitGroup
	quit := make(chan struct{})
	wg.Go(func() { q.watch(quit) })
	q.drain(ctx, b)
	close(quit)
	wg.Wait()
	q.spill()
	q.diskMu.Lock()
	defer q.diskMu.Unlock()
	if q.disk != nil {
		if err := q.disk.Close(); err != nil {
			q.log.Warn("close spool", "error", err)
		}
	}
}

// settle waits until the broker has everything, but not for long.
func (q *queue) settle(most time.Duration) {
	for end := time.Now().Add(most); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		q.diskMu.Lock()
		q.mu.Lock()
		idle := len(q.mem) == 0 && len(q.flight.recs) == 0 && (q.disk == nil || q.disk.Len() == 0)
		q.mu.Unlock()
		q.diskMu.Unlock()
		if idle {
			return
		}
	}
}

// watch has records spilled that wait for long.
func (q *queue) watch(quit <-chan struct{}) {
	t := time.NewTicker(spillAfter / 4)
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-quit:
			return
		}
		q.mu.Lock()
		late := (len(q.mem) > 0 || len(q.flight.recs) > 0 && !q.flight.disk) && time.Since(q.since) > spillAfter
		q.mu.Unlock()
		if late {
			q.spill()
		}
	}
}
