//go:build linux

package watchdog

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
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
		prefer     []string
		want       string
	}{
		{"hardware first", map[string]string{"watchdog0": "i6300ESB timer\n"}, nil, "watchdog0"},
		{"software first", map[string]string{"watchdog0": "Software Watchdog\n", "watchdog1": "iTCO_wdt\n"}, nil, "watchdog1"},
		{"only software", map[string]string{"watchdog0": "Software Watchdog\n"}, nil, ""},
		{"preferred", map[string]string{"watchdog0": "iTCO_wdt\n", "watchdog1": "gpio_wdt\n"}, []string{"f71808e_wdt", "gpio_wdt"}, "watchdog1"},
		{"others than preferred", map[string]string{"watchdog0": "iTCO_wdt\n", "watchdog1": "gpio_wdt\n"}, []string{"f71808e_wdt"}, "watchdog0"},
		{"named with a hyphen", map[string]string{"watchdog0": "iTCO_wdt\n", "watchdog1": "gpio_wdt\n"}, []string{"gpio-wdt"}, "watchdog1"},
		{"declared only", map[string]string{"watchdog0": "iTCO_wdt\n"}, []string{"f71808e_wdt"}, ""},
		{"none", nil, nil, ""},
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
			for name, id := range tc.identities { // drivers are in modules of their name
				driver := filepath.Join(class, name, "device", "driver")
				if err := os.MkdirAll(driver, 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.Symlink("/sys/module/"+strings.TrimSpace(id), filepath.Join(driver, "module")); err != nil {
					t.Fatal(err)
				}
			}
			got, _, err := choose(class, tc.prefer, tc.name != "declared only")
			if got != tc.want || errors.Is(err, ErrNone) != (tc.want == "") {
				t.Errorf("got %q, %v, want %q", got, err, tc.want)
			}
		})
	}
}

func TestTimeoutWithinLimits(t *testing.T) {
	class := t.TempDir()
	dir := filepath.Join(class, "watchdog0")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if got := within(class, "watchdog0", 30); got != 30 {
		t.Errorf("without limits: got %d s, want 30", got)
	}
	for file, text := range map[string]string{"min_timeout": "2\n", "max_timeout": "15\n"} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for wish, want := range map[int]int{30: 15, 1: 2, 10: 10} {
		if got := within(class, "watchdog0", wish); got != want {
			t.Errorf("a wish for %d s: got %d s, want %d", wish, got, want)
		}
	}
}
