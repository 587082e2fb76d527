//go:build linux

package pid1

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waysideos/wayside/init/slots"
	"github.com/waysideos/wayside/init/trial"
	"github.com/waysideos/wayside/services/vfs"
)

// What ended the boot before is asked of the watchdog, whose driver loads beside
// the sequence, and of nobody for ever.
func TestResetCauseWaitsForTheWatchdog(t *testing.T) {
	for name, tc := range map[string]struct {
		panicked    bool
		armed, want time.Duration
	}{
		"a panic":             {true, time.Hour, 0},
		"the driver comes":    {false, 3 * time.Second, 3 * time.Second},
		"a driver that hangs": {false, time.Hour, 30 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, _ := testMachine(t)
				armed := time.AfterFunc(tc.armed, func() { close(m.armed) })
				defer armed.Stop()
				begin := time.Now()
				cause := m.resetCause(tc.panicked)
				if took := time.Since(begin); took != tc.want || (cause == "kernel panic") != tc.panicked {
					t.Errorf("got %q after %v, want %v", cause, took, tc.want)
				}
			})
		})
	}
}

// onTrial is a boot partition from which a version on trial was started.
type onTrial struct{ settled []slots.Verdict }

func (l *onTrial) Look() (*slots.Boot, error) {
	b := &slots.Boot{Entries: []slots.Entry{{File: "new", Base: "new", Counted: true, Left: 2, Done: 1, Image: slots.Image{Version: "2", RootHash: "bb"}}}}
	b.Running = &b.Entries[0]
	return b, nil
}
func (l *onTrial) Try(slots.Candidate) error { return nil }
func (l *onTrial) Settle(v slots.Verdict) error {
	l.settled = append(l.settled, v)
	return nil
}

// TestCommitOfWhatHangs: the word of the updater that all is well keeps no
// version whose PID 1 stands still. It may ask again.
func TestCommitOfWhatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, _ := testMachine(t)
		loader := &onTrial{}
		k, err := trial.Open(trial.Config{Store: loader, State: vfs.NewCrashable(1), Log: m.Log(), Now: time.Now,
			Level: 1, Running: trial.Release{Version: "2", Counter: 20, RootHash: "bb"}})
		if err != nil || !k.OnTrial() {
			t.Fatalf("the boot is no trial: %v", err)
		}
		m.trial.Store(k)
		commit := func() error { return m.update()["commit"]([]byte(`{"checks":[{"name":"services","ok":true}]}`)) }
		held := func(when string) {
			t.Helper()
			err := commit()
			if refusal := slots.Refusal(""); err == nil || errors.As(err, &refusal) || !k.OnTrial() || len(loader.settled) > 0 {
				t.Errorf("%s: got %v, on trial %v; want it held, and asked again", when, err, k.OnTrial())
			}
		}
		held("before the first turn")
		time.Sleep(time.Minute)
		m.turned.Store(int64(time.Since(m.booted)))
		time.Sleep(2 * staleTurn)
		held("after the last one")
		m.turned.Store(int64(time.Since(m.booted)))
		if err := commit(); err != nil || k.OnTrial() {
			t.Errorf("while it turns: got %v, on trial %v", err, k.OnTrial())
		}
	})
}
