package connect

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/connect/spool"
	"github.com/waysideos/wayside/services/vfs"
)

// Of dead letters that the broker refuses as well.
const (
	asideBytes = 4 << 20 // on disk, of one connector
	asideEvery = time.Minute
	// deadLess is how much less of the original is tried where the topic finds
	// a dead letter too large.
	deadLess = 8
)

// aside keeps dead letters that their topic refuses, in the spool's format,
// and offers them again: when the connector starts, and each minute. Whatever
// is wrong with the topic holds up nothing else.
type aside struct {
	state *state
	log   *slog.Logger

	mu   sync.Mutex
	disk *spool.Spool // nil: there is none
	told time.Time

	comeMu sync.Mutex
	come   []refusal
	wake   chan struct{} // has one when something has come
}

// refusal is a dead letter that somebody waits for to be kept.
type refusal struct {
	why    error
	letter *kgo.Record
	done   func(error)
}

// open finds what an earlier run has left.
func (a *aside) open(fsys vfs.FS, dir string) error {
	disk, _, err := spool.Open(fsys, dir, asideBytes)
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.disk = disk
	a.tell(0)
	return nil
}

// keep is durable on return. What the disk does not take, and the oldest where
// there are too many, is counted as lost.
func (a *aside) keep(why error, rs ...*kgo.Record) {
	a.mu.Lock()
	defer a.mu.Unlock()
	dropped, err := int64(len(rs)), errNoDisk
	if a.disk != nil {
		if dropped, err = a.disk.Append(rs); err != nil {
			dropped += int64(len(rs))
		}
	}
	a.tell(dropped)
	if time.Since(a.told) < time.Minute {
		return
	}
	a.told = time.Now()
	a.log.Error("the broker refuses dead letters, they are kept on the box and offered again", "topic", rs[0].Topic, "reason", why, "lost", dropped, "error", err)
}

// later is keep for who cannot wait for the disk; done is told.
func (a *aside) later(r refusal) {
	a.comeMu.Lock()
	defer a.comeMu.Unlock()
	a.come = append(a.come, r)
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

func (a *aside) keepCome() {
	a.comeMu.Lock()
	come := a.come
	a.come = nil
	a.comeMu.Unlock()
	if len(come) == 0 {
		return
	}
	letters := make([]*kgo.Record, len(come))
	for i, r := range come {
		letters[i] = r.letter
	}
	a.keep(come[0].why, letters...)
	for _, r := range come {
		r.done(nil)
	}
}

// tell updates the counts; mu is held.
func (a *aside) tell(lost int64) {
	kept := int64(0)
	if a.disk != nil {
		kept = a.disk.Len()
	}
	a.state.mu.Lock()
	defer a.state.mu.Unlock()
	a.state.s.Aside = kept
	a.state.s.Dropped += lost
}

// run keeps what comes, and offers it again, until ctx ends.
func (a *aside) run(ctx context.Context, b *Box) {
	t := time.NewTicker(asideEvery)
	defer t.Stop()
	for a.offer(ctx, b) {
	}
	for {
		select {
		case <-a.wake:
			a.keepCome()
		case <-t.C:
			for a.offer(ctx, b) {
			}
		case <-ctx.Done():
			a.keepCome()
			return
		}
	}
}

func (a *aside) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.disk != nil {
		_ = a.disk.Close() // what is kept is on the disk already
	}
}

// offer gives the oldest to the topic that the profile names now; true says
// that there may be more to give.
func (a *aside) offer(ctx context.Context, b *Box) (more bool) {
	a.mu.Lock()
	if a.disk == nil || a.disk.Len() == 0 {
		a.mu.Unlock()
		return false
	}
	rs, first, err := a.disk.Read(a.disk.Head(), lotBytes)
	if len(rs) == 0 {
		defer a.mu.Unlock()
		if !spool.Damaged(err) {
			return false
		}
		n, err := a.disk.Skip()
		a.tell(n)
		return err == nil
	}
	a.mu.Unlock()
	taken := uint64(0)
	for _, r := range rs {
		r.Topic = b.records.DeadLetter
		stored := make(chan error, 1)
		b.bury(ctx, r, func(err error) { stored <- err })
		select {
		case err = <-stored:
		case <-ctx.Done():
			err = ctx.Err()
		}
		if err != nil {
			break
		}
		taken++
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.disk.Done(first+taken) != nil || a.disk.Save() != nil {
		return false
	}
	a.tell(0)
	return err == nil
}

// bury gives a dead letter to its topic, with less of the original where that
// is too large for it.
func (b *Box) bury(ctx context.Context, r *kgo.Record, done func(error)) {
	b.back.produce(ctx, r, func(err error) {
		if less := b.less(r, err); less != nil {
			b.bury(ctx, less, done)
			return
		}
		done(err)
	})
}

// less is a dead letter with less of the original, nil where err is another
// than that it is too large, or nothing is left to leave out. Those to come
// begin with as much.
func (b *Box) less(r *kgo.Record, err error) *kgo.Record {
	if !oversize(err) || len(r.Value) == 0 {
		return nil
	}
	keep := len(r.Value) / deadLess
	for most := b.deadMost.Load(); int64(keep) < most && !b.deadMost.CompareAndSwap(most, int64(keep)); most = b.deadMost.Load() {
	}
	return cut(r, keep)
}

// cut is a record with no more than so many bytes of its value.
func cut(r *kgo.Record, keep int) *kgo.Record {
	if len(r.Value) <= keep {
		return r
	}
	out := &kgo.Record{Topic: r.Topic, Key: r.Key, Value: r.Value[:keep], Timestamp: r.Timestamp, Headers: r.Headers}
	if !has(r.Headers, headerTruncated) {
		out.Headers = append(r.Headers[:len(r.Headers):len(r.Headers)], truncated(len(r.Value)))
	}
	return out
}

func has(hs []kgo.RecordHeader, key string) bool {
	for _, h := range hs {
		if h.Key == key {
			return true
		}
	}
	return false
}

func oversize(err error) bool {
	return errors.Is(err, errTooLarge) || errors.Is(err, kerr.MessageTooLarge) || errors.Is(err, kerr.RecordListTooLarge)
}

// ofTopic tells a refusal that every record of the topic would meet.
func ofTopic(err error) bool {
	return missing(err) || errors.Is(err, kerr.InvalidTopicException) || errors.Is(err, kerr.TopicAuthorizationFailed)
}
