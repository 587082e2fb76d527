//go:build linux

package watchdog

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestFedOnlyWithinLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var fed atomic.Int32
		f := NewFeeder(slog.New(slog.DiscardHandler))
		f.Attach(func() error { fed.Add(1); return nil })
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); f.Run(ctx, time.Second) }()
		step := func(wait time.Duration, want bool, when string) {
			before := fed.Load()
			time.Sleep(wait)
			synctest.Wait()
			if got := fed.Load() > before; got != want {
				t.Errorf("%s: fed is %v, want %v", when, got, want)
			}
		}
		step(5*time.Second, false, "without a lease")
		f.Extend(10 * time.Second)
		step(5*time.Second, true, "within the lease")
		time.Sleep(6 * time.Second)
		step(30*time.Second, false, "after the lease")
		f.Extend(3 * time.Second)
		step(2*time.Second, true, "with a new lease")
		f.Last(10 * time.Second)
		f.Extend(time.Hour)
		f.Last(time.Hour)
		step(9*time.Second, true, "within the last lease")
		time.Sleep(2 * time.Second)
		f.Extend(time.Hour)
		step(30*time.Second, false, "after the last lease")
		cancel()
		<-done
	})
}

func TestChooseByIdentity(t *testing.T) {
	for _, tc := range []struct {
		name       string
		identities map[string]string
		want       string
	}{
		{"hardware first", map[string]string{"watchdog0": "i6300ESB timer\n"}, "watchdog0"},
		{"software first", map[string]string{"watchdog0": "Software Watchdog\n", "watchdog1": "iTCO_wdt\n"}, "watchdog1"},
		{"only software", map[string]string{"watchdog0": "Software Watchdog\n"}, ""},
		{"none", nil, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			class := t.TempDir()
			for name, id := range tc.identities {
				if err := os.Mkdir(filepath.Join(class, name), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(class, name, "identity"), []byte(id), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			got, _, err := choose(class)
			if got != tc.want || errors.Is(err, ErrNone) != (tc.want == "") {
				t.Errorf("got %q, %v, want %q", got, err, tc.want)
			}
		})
	}
}
