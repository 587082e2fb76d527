package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waysideos/wayside/services/manifest"
)

// fakeService is a service whose every word the test sets.
type fakeService struct {
	ready  chan struct{}
	result error

	mu      sync.Mutex
	summary string
	health  error
}

func (f *fakeService) Run(ctx context.Context) error {
	<-ctx.Done()
	return f.result
}

func (f *fakeService) Ready() <-chan struct{} { return f.ready }

func (f *fakeService) Healthy() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.health
}

func (f *fakeService) Status() manifest.Report {
	f.mu.Lock()
	defer f.mu.Unlock()
	return manifest.Report{Summary: f.summary}
}

func (f *fakeService) set(summary string, health error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.summary, f.health = summary, health
}

// attended runs attend in a synctest bubble and collects its messages.
type attended struct {
	svc    *fakeService
	stdout bytes.Buffer
	notes  chan string
	cancel context.CancelFunc
	ended  chan error
}

func startAttend(t *testing.T, watchdog time.Duration, test string) *attended {
	a := &attended{
		svc:   &fakeService{ready: make(chan struct{}), summary: "starting"},
		notes: make(chan string, 100), ended: make(chan error, 1),
	}
	ctx, cancel := context.WithCancel(t.Context())
	a.cancel = cancel
	opts := options{
		log:      slog.New(slog.DiscardHandler),
		announce: "listening on 127.0.0.1:1\n",
		env: environment{
			watchdog: watchdog, test: test, stdout: &a.stdout,
			notify: func(s string) { a.notes <- s },
		},
	}
	run := make(chan error, 1)
	go func() { run <- a.svc.Run(ctx) }()
	go func() { a.ended <- attend(ctx, a.svc, opts, run) }()
	synctest.Wait()
	return a
}

// after lets time pass and returns what was notified in it.
func (a *attended) after(d time.Duration) string {
	time.Sleep(d)
	synctest.Wait()
	var notes []string
	for len(a.notes) > 0 {
		notes = append(notes, <-a.notes)
	}
	return strings.Join(notes, "; ")
}

func (a *attended) want(t *testing.T, got, want string) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("notified (-want +got):\n%s", diff)
	}
}

func TestAttend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := startAttend(t, 0, "")
		a.want(t, a.after(5*time.Second), "STATUS=starting")
		if a.stdout.Len() > 0 {
			t.Errorf("stdout before ready: got %q, want nothing", a.stdout.String())
		}
		a.svc.set("serving\n 3 clients", nil)
		close(a.svc.ready)
		a.want(t, a.after(5*time.Second), "READY=1\nSTATUS=serving 3 clients")
		if got, want := a.stdout.String(), "listening on 127.0.0.1:1\n"; got != want {
			t.Errorf("stdout: got %q, want %q", got, want)
		}
		a.svc.set("serving 4 clients", nil)
		a.want(t, a.after(5*time.Second), "STATUS=serving 4 clients")
		a.cancel()
		a.want(t, a.after(time.Second), "STOPPING=1")
		if err := <-a.ended; err != nil {
			t.Errorf("attend: got %v, want nil", err)
		}
	})
}

func TestWatchdogFollowsHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := startAttend(t, 10*time.Second, "")
		a.want(t, a.after(15*time.Second), "STATUS=starting")
		close(a.svc.ready)
		a.want(t, a.after(11*time.Second), "READY=1; WATCHDOG=1; WATCHDOG=1")
		a.svc.set("starting", errors.New("stuck"))
		a.want(t, a.after(20*time.Second), "")
		a.svc.set("starting", nil)
		a.want(t, a.after(5*time.Second), "WATCHDOG=1")
		a.cancel()
		<-a.ended
	})
}

func TestHangHookStarvesTheWatchdog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := startAttend(t, 10*time.Second, testHang)
		close(a.svc.ready)
		a.want(t, a.after(time.Minute), "READY=1\nSTATUS=starting")
		a.cancel()
		<-a.ended
	})
}

func TestRunServiceReturnsTheServicesError(t *testing.T) {
	wrong := errors.New("disk is gone")
	for _, tt := range []struct{ result, want error }{{nil, nil}, {context.Canceled, nil}, {wrong, wrong}} {
		svc := &fakeService{ready: make(chan struct{}), result: tt.result}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		err := runService(ctx, "fake", svc, options{log: slog.New(slog.DiscardHandler), env: environment{notify: func(string) {}, stdout: &bytes.Buffer{}}})
		if !errors.Is(err, tt.want) || (tt.want == nil && err != nil) {
			t.Errorf("Run returned %v: got %v, want %v", tt.result, err, tt.want)
		}
	}
}
