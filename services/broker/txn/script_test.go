package txn_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/waysideos/wayside/services/broker/meta"
	"github.com/waysideos/wayside/services/broker/store"
	"github.com/waysideos/wayside/services/broker/txn"
	"github.com/waysideos/wayside/services/vfs"
)

// fakeLogs stand for partition logs: t0, t1 and so on of one topic.
type fakeLogs struct {
	mu      sync.Mutex
	markers map[int32][]string
	fails   map[int32]error
	open    map[int32]map[int64]int16 // epochs of open transactions, by partition and producer id
	slow    chan struct{}             // until it is closed no log is recovered
}

var topicID = meta.ID{1}

func (f *fakeLogs) Log(p meta.TxnPartition) (txn.Log, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.fails[p.Partition]; errors.Is(err, txn.ErrGone) {
		return nil, err
	}
	return fakeLog{f, p.Partition}, nil
}

func (f *fakeLogs) Open(ctx context.Context) iter.Seq[txn.OpenTxn] {
	f.mu.Lock()
	slow := f.slow
	f.mu.Unlock()
	return func(yield func(txn.OpenTxn) bool) {
		if slow != nil {
			select {
			case <-slow:
			case <-ctx.Done():
				return
			}
		}
		f.mu.Lock()
		var all []txn.OpenTxn
		for part, open := range f.open {
			for pid := range open {
				all = append(all, txn.OpenTxn{TxnPartition: meta.TxnPartition{Topic: topicID, Partition: part}, ProducerID: pid})
			}
		}
		f.mu.Unlock()
		for _, o := range all {
			if !yield(o) {
				return
			}
		}
	}
}

type fakeLog struct {
	f    *fakeLogs
	part int32
}

func (l fakeLog) AppendMarker(pid int64, epoch int16, commit bool, _ int32) (store.Appended, error) {
	l.f.mu.Lock()
	defer l.f.mu.Unlock()
	if err := l.f.fails[l.part]; err != nil {
		return store.Appended{}, err
	}
	end := "abort"
	if commit {
		end = "commit"
	}
	delete(l.f.open[l.part], pid)
	l.f.markers[l.part] = append(l.f.markers[l.part], fmt.Sprintf("%d/%d:%s", pid, epoch, end))
	return store.Appended{}, nil
}

func (l fakeLog) OpenTxn(pid int64) (int16, bool) {
	l.f.mu.Lock()
	defer l.f.mu.Unlock()
	epoch, open := l.f.open[l.part][pid]
	return epoch, open
}

func (l fakeLog) Wait(ctx context.Context, _ int64) error { return ctx.Err() }

// stage runs scripts: lines of "operation arguments => want".
type stage struct {
	t    *testing.T
	fsys *vfs.Crashable
	meta *meta.Store
	logs *fakeLogs
	c    *txn.Coordinator
}

func newStage(t *testing.T) *stage {
	s := &stage{t: t, fsys: vfs.NewCrashable(1), logs: &fakeLogs{markers: map[int32][]string{}, fails: map[int32]error{}, open: map[int32]map[int64]int16{}}}
	s.start()
	return s
}

func (s *stage) start() {
	st, err := meta.Open(s.fsys, "meta")
	if err != nil {
		s.t.Fatal(err)
	}
	s.meta = st
	s.c = txn.Open(txn.Config{Meta: st, Logs: s.logs, Log: slog.New(slog.DiscardHandler), Expiry: time.Hour})
}

func (s *stage) stop() {
	s.c.Close()
	if err := s.meta.Close(); err != nil {
		s.t.Fatal(err)
	}
}

func (s *stage) run(script string) {
	s.t.Helper()
	for n, line := range strings.Split(script, "\n") {
		line, _, _ = strings.Cut(line, "//")
		if strings.TrimSpace(line) == "" {
			continue
		}
		do, want, _ := strings.Cut(line, "=>")
		if got := s.do(strings.Fields(do)); got != strings.TrimSpace(want) {
			s.t.Fatalf("line %d: %s\n got %s", n, strings.TrimSpace(line), got)
		}
	}
}

func errName(err error) string {
	var k *kerr.Error
	if errors.As(err, &k) {
		return k.Message
	}
	return err.Error()
}

func (s *stage) do(w []string) string {
	ctx := s.t.Context()
	f, ok := operations[w[0]]
	if !ok {
		s.t.Fatalf("no operation %s", w[0])
	}
	return f(s, ctx, w[1:])
}

// producer parses "id" and "producer/epoch".
func producer(w []string) txn.Producer {
	id, epoch, _ := strings.Cut(w[1], "/")
	pid, err1 := strconv.ParseInt(id, 10, 64)
	e, err2 := strconv.ParseInt(epoch, 10, 16)
	if err1 != nil || err2 != nil {
		panic(w[1])
	}
	return txn.Producer{Txn: w[0], ID: pid, Epoch: int16(e)}
}

func parts(w []string) (out []meta.TxnPartition) {
	for _, p := range w {
		out = append(out, meta.TxnPartition{Topic: topicID, Partition: number(p)})
	}
	return out
}

func number(s string) int32 {
	n, err := strconv.Atoi(strings.TrimPrefix(s, "t"))
	if err != nil {
		panic(s)
	}
	return int32(n)
}

func result(err error) string {
	if err != nil {
		return errName(err)
	}
	return "ok"
}

func identity(id int64, epoch int16, err error) string {
	if err != nil {
		return errName(err)
	}
	return fmt.Sprintf("%d/%d", id, epoch)
}

func end(bump bool) func(*stage, context.Context, []string) string {
	return func(s *stage, ctx context.Context, w []string) string {
		return identity(s.c.End(ctx, txn.End{Producer: producer(w), Commit: w[2] == "commit", Bump: bump}))
	}
}

var operations map[string]func(s *stage, ctx context.Context, w []string) string

func init() {
	operations = map[string]func(s *stage, ctx context.Context, w []string) string{
		// init x [pid/epoch]
		"init": func(s *stage, ctx context.Context, w []string) string {
			r := txn.Init{Txn: w[0], Timeout: time.Minute, ID: -1, Epoch: -1}
			if len(w) > 1 {
				p := producer(w)
				r.ID, r.Epoch = p.ID, p.Epoch
			}
			return identity(s.c.Init(ctx, r))
		},
		"add": func(s *stage, ctx context.Context, w []string) string {
			return result(s.c.Add(ctx, producer(w), parts(w[2:])))
		},
		// write: a batch of version 11, write2: one of version 12
		"write": func(s *stage, ctx context.Context, w []string) string {
			return s.write(ctx, w, false)
		},
		"write2": func(s *stage, ctx context.Context, w []string) string {
			return s.write(ctx, w, true)
		},
		"group": func(s *stage, ctx context.Context, w []string) string {
			return result(s.c.AddGroup(ctx, producer(w), w[2]))
		},
		"offset": func(s *stage, ctx context.Context, w []string) string {
			return s.commitOffset(ctx, w, false)
		},
		"offset2": func(s *stage, ctx context.Context, w []string) string {
			return s.commitOffset(ctx, w, true)
		},
		"end":  end(false),
		"end2": end(true),
		"state": func(s *stage, _ context.Context, w []string) string {
			t, parts, ok := s.c.Describe(w[0])
			if !ok {
				return "none"
			}
			return fmt.Sprintf("%s %d/%d %d", t.State, t.ProducerID, t.Epoch, len(parts))
		},
		"markers": func(s *stage, _ context.Context, w []string) string {
			s.logs.mu.Lock()
			defer s.logs.mu.Unlock()
			return strings.Join(s.logs.markers[number(w[0])], " ")
		},
		"committed": func(s *stage, _ context.Context, w []string) string {
			o, ok := s.meta.Offset(w[0], "t", number(w[1]))
			if !ok {
				return fmt.Sprint("none ", s.c.Pending(w[0], "t", number(w[1])))
			}
			return fmt.Sprint(o.Offset, " ", s.c.Pending(w[0], "t", number(w[1])))
		},
		"plain": func(s *stage, _ context.Context, w []string) string {
			n, _ := strconv.ParseInt(w[2], 10, 64)
			return result(s.meta.Commit(w[0], []meta.Offset{{Topic: "t", Partition: number(w[1]), Offset: n}}))
		},
		"fail": func(s *stage, _ context.Context, w []string) string {
			s.logs.mu.Lock()
			defer s.logs.mu.Unlock()
			s.logs.fails[number(w[0])] = map[string]error{
				"full": store.ErrFull, "readonly": store.ErrReadOnly, "gone": txn.ErrGone, "epoch": store.ErrProducerEpoch, "never": nil,
			}[w[1]]
			return "ok"
		},
		// open t0 0/1: a log has a transaction open
		"open": func(s *stage, _ context.Context, w []string) string {
			s.logs.mu.Lock()
			defer s.logs.mu.Unlock()
			p := producer(w)
			s.logs.open[number(w[0])] = map[int64]int16{p.ID: p.Epoch}
			return "ok"
		},
		// slow: logs are recovered at recover only
		"slow": func(s *stage, _ context.Context, _ []string) string {
			s.logs.mu.Lock()
			defer s.logs.mu.Unlock()
			s.logs.slow = make(chan struct{})
			return "ok"
		},
		"recover": func(s *stage, _ context.Context, _ []string) string {
			close(s.logs.slow)
			synctest.Wait()
			return "ok"
		},
		"epoch": func(s *stage, _ context.Context, w []string) string {
			t, _, _ := s.c.Describe(w[0])
			t.Epoch = int16(number(w[1]))
			return result(s.meta.PutTxn(meta.TxnChange{Txn: t}))
		},
		"owed": func(s *stage, _ context.Context, _ []string) string { return fmt.Sprint(len(s.meta.OwedMarkers())) },
		"pass": func(_ *stage, _ context.Context, w []string) string {
			d, err := time.ParseDuration(w[0])
			if err != nil {
				panic(err)
			}
			time.Sleep(d)
			synctest.Wait()
			return "ok"
		},
		"restart": func(s *stage, _ context.Context, _ []string) string {
			s.stop()
			s.start()
			if s.logs.slow == nil {
				synctest.Wait()
			}
			return "ok"
		},
		"cut": func(s *stage, _ context.Context, _ []string) string {
			s.fsys = s.fsys.Crash()
			s.c.Close()
			s.start()
			return "ok"
		},
	}
}

func (s *stage) write(ctx context.Context, w []string, implicit bool) string {
	leave, err := s.c.Append(ctx, producer(w), parts(w[2:]), implicit)
	if err == nil {
		leave()
	}
	return result(err)
}

func (s *stage) commitOffset(ctx context.Context, w []string, implicit bool) string {
	n, _ := strconv.ParseInt(w[4], 10, 64)
	offs := []meta.Offset{{Topic: "t", Partition: number(w[3]), Offset: n}}
	return result(s.c.CommitOffsets(ctx, producer(w), w[2], offs, implicit))
}
