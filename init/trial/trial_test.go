package trial

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waysideos/wayside/init/slots"
	"github.com/waysideos/wayside/services/manifest"
	"github.com/waysideos/wayside/services/vfs"
)

// Every rule is reached, and every situation has one.
func TestRules(t *testing.T) {
	used := map[string]int{}
	bits := func(n, i int) bool { return n>>i&1 == 1 }
	for n := range 1 << 8 {
		for _, where := range []seat{absent, next, behind, out} {
			s := situation{bits(n, 0), bits(n, 1), bits(n, 2), bits(n, 3), bits(n, 4), bits(n, 5), bits(n, 6), bits(n, 7), where}
			step, why := decide(s)
			used[why]++
			if step == rest && s.told {
				t.Errorf("%+v: no rule", s)
			}
			if step == adopt && s.counted || step == tryOn && !s.counted {
				t.Errorf("%+v: %s", s, step)
			}
		}
	}
	for _, r := range rules {
		if used[r.why] == 0 {
			t.Errorf("rule %q is never reached", r.why)
		}
	}
}

var (
	oldOne = Release{"1", 10, "aa"}
	newOne = Release{"2", 20, "bb"}
)

// loader is a boot partition in memory.
type loader struct {
	boot    slots.Boot
	settled []slots.Verdict
	err     error
}

func (l *loader) Look() (*slots.Boot, error) {
	b := l.boot
	return &b, l.err
}
func (l *loader) Try(slots.Candidate) error { return l.err }
func (l *loader) Settle(v slots.Verdict) error {
	l.settled = append(l.settled, v)
	return l.err
}

func entry(r Release, counted bool, left, done int) slots.Entry {
	base := "wayside-" + r.Version + ".efi"
	return slots.Entry{File: base, Base: base, Counted: counted, Left: left, Done: done, Image: slots.Image{Version: r.Version, RootHash: r.RootHash}}
}

// onTrial is a boot of newOne that nobody has called good.
func onTrial(left, done int) *loader {
	l := &loader{}
	l.boot.Entries = []slots.Entry{entry(newOne, true, left, done), entry(oldOne, false, 0, 0)}
	l.boot.Running = &l.boot.Entries[0]
	return l
}

// back is a boot of oldOne after all tries of newOne.
func back(done int) *loader {
	l := &loader{}
	l.boot.Entries = []slots.Entry{entry(oldOne, false, 0, 0), entry(newOne, true, 0, done)}
	l.boot.Running = &l.boot.Entries[0]
	return l
}

func config(l slots.Loader, state vfs.FS, runs Release) Config {
	return Config{
		Store: l, State: state, Running: runs, Board: "b", Arch: "amd64", Level: 3, Log: slog.New(slog.DiscardHandler),
		Now: func() time.Time { return time.Unix(1_800_000_000, 0).UTC() }, Reboot: func(string) {},
		Tail:  func() []string { return []string{"last words of " + runs.Version} },
		Other: func() (io.ReaderAt, int64, func() error, error) { return nil, 0, nil, errors.New("no slot") },
	}
}

func open(t *testing.T, c Config) *Keeper {
	t.Helper()
	k, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// pending is a state partition on which newOne was activated.
func pending(t *testing.T) *vfs.Crashable {
	t.Helper()
	fsys := vfs.NewCrashable(1)
	r := &Record{Committed: oldOne, Floor: 10, Level: 2, Pending: &Pending{
		Activate: manifest.Activate{Version: "2", Counter: 20, RootHash: "bb"}, From: oldOne,
	}}
	if err := save(fsys, r); err != nil {
		t.Fatal(err)
	}
	return fsys
}

// What is said of a trial that did not come to its end in order.
func TestEvidence(t *testing.T) {
	for _, tc := range []struct {
		name string
		hurt func(t *testing.T, state vfs.FS)
		want manifest.Outcome
	}{
		{"never seen", func(*testing.T, vfs.FS) {}, manifest.Outcome{Check: "boot", Reason: "it died before init, or was not started at all", Tries: 3, ResetCause: "watchdog"}},
		{"a needed step", func(t *testing.T, state vfs.FS) {
			open(t, config(onTrial(2, 1), state, newOne)).Failing("network: no driver")
		}, manifest.Outcome{Check: "init", Reason: "network: no driver", Tries: 3, Reached: "init", ResetCause: "watchdog", Log: []string{"last words of 2"}}},
		{"silence after the services", func(t *testing.T, state vfs.FS) {
			open(t, config(onTrial(2, 1), state, newOne)).Reached("services started")
		}, manifest.Outcome{Check: "boot", Reason: `its boots ended without a word, the last one after "services started"`, Tries: 3, Reached: "services started", ResetCause: "watchdog", Log: []string{"last words of 2"}}},
		{"the health gate", func(t *testing.T, state vfs.FS) {
			l := onTrial(2, 1)
			rebooted := ""
			c := config(l, state, newOne)
			c.Reboot = func(reason string) { rebooted = reason }
			k := open(t, c)
			if err := k.Fail(manifest.Fail{Check: "canary", Reason: "lost", Detail: "offset 7"}); err != nil {
				t.Error(err)
			}
			if diff := cmp.Diff([]slots.Verdict{slots.Bad}, l.settled); diff != "" || !strings.Contains(rebooted, "lost") {
				t.Errorf("rebooted for %q, the loader was told (-want +got):\n%s", rebooted, diff)
			}
			if err := k.GiveBack(); err != nil || len(l.settled) != 1 {
				t.Errorf("the end of a failed trial gave its try back: %v, %v", l.settled, err)
			}
			if err := k.Commit(manifest.Commit{}); err == nil {
				t.Error("committed after it failed")
			}
		}, manifest.Outcome{Check: "canary", Reason: "lost", Detail: "offset 7", Tries: 3, Reached: "init", ResetCause: "watchdog", Log: []string{"last words of 2"}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			state := pending(t)
			tc.hurt(t, state)
			c := config(back(3), state, oldOne)
			c.ResetCause = func() string { return "watchdog" }
			s := open(t, c).Slots()
			want := tc.want
			want.Version, want.Counter, want.RootHash, want.From, want.Time = "2", 20, "bb", "1", c.Now()
			if diff := cmp.Diff(&want, s.Last); diff != "" {
				t.Errorf("outcome (-want +got):\n%s", diff)
			}
			if len(s.Failed) != 1 || s.Floor != 10 || s.Pending != nil {
				t.Errorf("got %+v", s)
			}
		})
	}
}

// How the boot before ended takes a while to find out: an ordinary boot does
// not ask.
func TestResetCauseIsAskedOfTrialsOnly(t *testing.T) {
	asked := 0
	state := vfs.NewCrashable(1)
	if err := save(state, &Record{Committed: oldOne, Floor: 10, Level: 2}); err != nil {
		t.Fatal(err)
	}
	alone := back(0)
	alone.boot.Entries = alone.boot.Entries[:1]
	c := config(alone, state, oldOne)
	c.ResetCause = func() string { asked++; return "watchdog" }
	if open(t, c); asked != 0 {
		t.Errorf("asked %d times in a boot that is no trial", asked)
	}
	state = pending(t)
	for range 2 {
		c := config(onTrial(2, 1), state, newOne)
		c.ResetCause = func() string { asked++; return "watchdog" }
		open(t, c)
	}
	if asked != 1 {
		t.Errorf("asked %d times in two boots of a trial, want once, of the first", asked)
	}
}

// During a trial services write what the version before can read; the first
// boot after the commit is what lets them go on.
func TestFormatBarrier(t *testing.T) {
	state := pending(t)
	l := onTrial(2, 1)
	k := open(t, config(l, state, newOne))
	if k.Level() != 2 || !k.OnTrial() || k.Writable() {
		t.Errorf("on trial: got level %d, want 2", k.Level())
	}
	if err := k.Commit(manifest.Commit{Checks: []manifest.Check{{Name: "x"}}}); err == nil {
		t.Error("committed with a check that was not passed")
	}
	if err := k.Commit(manifest.Commit{Checks: []manifest.Check{{Name: "x", OK: true}}}); err != nil {
		t.Fatal(err)
	}
	if k.Level() != 3 {
		t.Errorf("just committed: got level %d, want 3: nobody goes back any more", k.Level())
	}
	l.boot.Entries[0].Counted = false
	k = open(t, config(l, state, newOne))
	if s := k.Slots(); k.Level() != 3 || s.Floor != 20 || !s.Last.Committed || !k.Writable() {
		t.Errorf("after the commit: level %d, %+v", k.Level(), s)
	}
	// Without its story a trial writes the oldest format there is.
	if k := open(t, config(onTrial(2, 1), nil, newOne)); k.Level() != 1 || !k.OnTrial() {
		t.Errorf("without a state partition: got level %d, want 1", k.Level())
	}
}

func TestRefusals(t *testing.T) {
	state := pending(t)
	k := open(t, config(back(3), state, oldOne)) // 2 has failed
	for name, a := range map[string]manifest.Activate{
		"failed before":     {Version: "2", Counter: 20, RootHash: "bb"},
		"ask for a retry":   {Version: "2", Counter: 21, RootHash: "cc"},
		"signed permission": {Version: "0", Counter: 9, RootHash: "dd"},
		"the one that runs": {Version: "1", Counter: 10, RootHash: "AA"},
	} {
		var r slots.Refusal
		if err := k.Activate(a); !errors.As(err, &r) || name != "failed before" && !strings.Contains(err.Error(), name) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if err := k.Retry(manifest.Retry{Version: "2"}); err != nil {
		t.Fatal(err)
	}
	var r slots.Refusal
	if err := k.Activate(manifest.Activate{Version: "2", Counter: 20, RootHash: "bb"}); err == nil || errors.As(err, &r) {
		t.Errorf("after a retry: got %v, want the error of the slot", err)
	}
	if err := k.Fail(manifest.Fail{}); !errors.As(err, &r) {
		t.Errorf("fail without a trial: got %v", err)
	}
	k = open(t, config(back(3), nil, oldOne))
	if err := k.Activate(manifest.Activate{Version: "3", Counter: 30, RootHash: "cc"}); !errors.As(err, &r) {
		t.Errorf("without a state partition: got %v", err)
	}
}

func TestWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := onTrial(2, 1)
		k := open(t, config(l, pending(t), newOne))
		begin := time.Now()
		if err := k.Run(t.Context(), time.Minute); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took < time.Minute || took > time.Minute+2*saveLog || len(l.settled) != 1 {
			t.Errorf("after %v the loader was told %v", took, l.settled)
		}
	})
}

// TestBootLoader: a release that was published for it has its boot loader
// installed once it is committed, and never before; what fails is done again at
// the next boot.
func TestBootLoader(t *testing.T) {
	l := onTrial(2, 1)
	state := pending(t)
	installed, trouble := 0, errors.New("the disk is away")
	c := config(l, state, newOne)
	c.Install = func() error { installed++; return trouble }
	k := open(t, c)
	k.rec.Pending.BootLoader = true
	if installed != 0 {
		t.Error("installed on trial")
	}
	if err := k.Commit(manifest.Commit{}); err != nil || installed != 1 || len(k.Problems()) != 1 {
		t.Errorf("at the commit: %v, %d times, problems %q", err, installed, k.Problems())
	}
	l.boot.Entries[0].Counted = false
	trouble = nil
	for range 2 { // once more, and never again
		if open(t, c); installed != 2 {
			t.Errorf("at the next boots: installed %d times in all, want 2", installed)
		}
	}
}

// TestHopeless: when nobody will ever decide, the trial ends before its window.
func TestHopeless(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, begin := onTrial(2, 1), time.Now()
		c := config(l, pending(t), newOne)
		c.Hopeless = func() string {
			if time.Since(begin) < time.Minute {
				return ""
			}
			return "the updater falls"
		}
		k := open(t, c)
		if err := k.Run(t.Context(), time.Hour); err != nil {
			t.Fatal(err)
		}
		if v := k.rec.Pending.Verdict; time.Since(begin) > time.Minute+2*saveLog || v == nil || v.Reason != "the updater falls" || len(l.settled) != 1 {
			t.Errorf("after %v: verdict %+v, the loader was told %v", time.Since(begin), v, l.settled)
		}
	})
}

// An end that was asked for gives the try back, but not for ever.
func TestGiveBack(t *testing.T) {
	state := pending(t)
	for i := range maxGivenBack + 1 {
		l := onTrial(2, 1)
		err := open(t, config(l, state, newOne)).GiveBack()
		if given := i < maxGivenBack; given != (err == nil) || given != (len(l.settled) == 1) {
			t.Errorf("time %d: got %v and %v", i, l.settled, err)
		}
	}
}

// A damaged record is set aside, and the box goes on.
func TestDamaged(t *testing.T) {
	state := pending(t)
	f, err := state.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	f.WriteAt([]byte("x"), 30)
	f.Close()
	k := open(t, config(back(3), state, oldOne))
	if p := k.Problems(); len(p) != 1 || !strings.Contains(p[0], "wrong checksum") {
		t.Errorf("got problems %q", p)
	}
	if _, err := state.Open(damaged); err != nil {
		t.Error(err)
	}
	if s := open(t, config(back(3), state, oldOne)).Slots(); s.Floor != 10 || len(s.Problems) != 0 {
		t.Errorf("got %+v", s)
	}
}

// An ordinary boot writes nothing.
func TestOrdinaryBootWritesNothing(t *testing.T) {
	state := vfs.NewCrashable(1)
	l := back(0)
	l.boot.Entries = l.boot.Entries[:1]
	open(t, config(l, state, oldOne))
	state.SetHook(func(op vfs.Op, name string) error {
		if op != vfs.OpOpen && op != vfs.OpRead {
			t.Errorf("%s %s", op, name)
		}
		return nil
	})
	if k := open(t, config(l, state, oldOne)); k.Level() != 3 || k.OnTrial() || len(l.settled) != 0 {
		t.Errorf("got level %d, told the loader %v", k.Level(), l.settled)
	}
}

// The record is the old one or the new one.
func TestRecordSurvivesPowerCuts(t *testing.T) {
	for seed := range uint64(20) {
		for n := 1; ; n++ {
			state := vfs.NewCrashable(seed)
			if err := save(state, &Record{Floor: 1}); err != nil {
				t.Fatal(err)
			}
			left := n
			state.SetHook(func(vfs.Op, string) error {
				if left--; left <= 0 {
					return vfs.ErrCrashed
				}
				return nil
			})
			err := save(state, &Record{Floor: 2, Failed: []manifest.Outcome{{Log: []string{strings.Repeat("x", 5000)}}}})
			after := state.Crash()
			r, problem := load(after)
			if problem != nil || r.Floor != 1 && r.Floor != 2 || err == nil && r.Floor != 2 {
				t.Fatalf("seed %d, operation %d: got floor %d, %v after %v", seed, n, r.Floor, problem, err)
			}
			if err == nil {
				break
			}
		}
	}
}

func TestNoRecord(t *testing.T) {
	if r, err := load(vfs.NewCrashable(1)); err != nil || r.Floor != 0 {
		t.Errorf("got %+v, %v", r, err)
	}
	if _, err := vfs.ReadWhole(vfs.NewCrashable(1), file, headerSize+maxRecord); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	b, err := encode(&Record{Committed: oldOne, Pending: &Pending{Verdict: &manifest.Fail{}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(fmt.Appendf(nil, "WUPD\x02"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decode(b)
		if err != nil {
			return
		}
		again, err := encode(r)
		if err != nil {
			t.Fatal(err)
		}
		if r2, err := decode(again); err != nil || !cmp.Equal(r, r2) {
			t.Errorf("%v: %s", err, cmp.Diff(r, r2))
		}
		_ = bytes.Equal(again, b)
	})
}
