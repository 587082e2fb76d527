//go:build linux

package reap

import (
	"bytes"
	"context"
	"log/slog"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// running returns a Reaper whose Run ends with the test.
func running(t *testing.T, log *slog.Logger) *Reaper {
	t.Helper()
	r := New(log)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); r.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return r
}

func await(t *testing.T, c <-chan Exit) Exit {
	t.Helper()
	select {
	case e := <-c:
		return e
	case <-time.After(20 * time.Second):
		t.Fatal("no exit within 20 s")
		return Exit{}
	}
}

func TestStartDeliversExit(t *testing.T) {
	r := running(t, slog.New(slog.DiscardHandler))
	for _, tc := range []struct {
		script, want string
		clean        bool
	}{
		{"exit 0", "exit status 0", true},
		{"exit 7", "exit status 7", false},
		{"kill -KILL $$", "signal: killed", false},
	} {
		cmd := exec.Command("/bin/sh", "-c", tc.script)
		pid, c, err := r.Start(cmd)
		if err != nil {
			t.Fatal(err)
		}
		got := await(t, c)
		if got.String() != tc.want || got.Clean() != tc.clean || got.PID != pid {
			t.Errorf("%q: got %v (clean %v, pid %d), want %s (clean %v, pid %d)",
				tc.script, got, got.Clean(), got.PID, tc.want, tc.clean, pid)
		}
		if _, open := <-c; open {
			t.Errorf("%q: exit delivered twice", tc.script)
		}
	}
}

// Children that end while others start must each reach their own channel.
func TestManyShortChildren(t *testing.T) {
	r := running(t, slog.New(slog.DiscardHandler))
	type child struct {
		pid  int
		exit <-chan Exit
	}
	var all []child
	for range 60 {
		pid, c, err := r.Start(exec.Command("/bin/true"))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, child{pid, c})
	}
	for _, c := range all {
		if got := await(t, c.exit); got.PID != c.pid || !got.Clean() {
			t.Errorf("got %+v, want pid %d clean", got, c.pid)
		}
	}
}

func TestOrphanIsReaped(t *testing.T) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Skipf("become subreaper: %v", err)
	}
	defer unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
	var out bytes.Buffer
	logged := make(chan struct{}, 100)
	log := slog.New(slog.NewTextHandler(writer(func(p []byte) {
		out.Write(p)
		logged <- struct{}{}
	}), &slog.HandlerOptions{Level: slog.LevelDebug}))
	r := running(t, log)
	_, c, err := r.Start(exec.Command("/bin/sh", "-c", "(exec sleep 0.05) & exit 3"))
	if err != nil {
		t.Fatal(err)
	}
	if got := await(t, c).String(); got != "exit status 3" {
		t.Errorf("got %s, want exit status 3", got)
	}
	select {
	case <-logged:
		if !strings.Contains(out.String(), "orphan reaped") {
			t.Errorf("got log %q, want an orphan", out.String())
		}
	case <-time.After(20 * time.Second):
		t.Error("the orphan was not reaped within 20 s")
	}
}

func TestStartRefusesCopiedStream(t *testing.T) {
	r := New(slog.New(slog.DiscardHandler))
	cmd := exec.Command("/bin/true")
	cmd.Stdout = &bytes.Buffer{}
	if _, _, err := r.Start(cmd); err == nil {
		t.Error("got no error for a buffer as stdout, want one")
	}
}

type writer func([]byte)

func (w writer) Write(p []byte) (int, error) { w(p); return len(p), nil }
