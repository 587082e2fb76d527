//go:build linux

package supervise

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/waysideos/wayside/services/manifest"
)

// aheadBench is a bench whose one service waits for the word, and its process.
func aheadBench(t *testing.T) (b *bench, pid int) {
	t.Helper()
	u := childUnit("echo", "echo")
	u.Sockets, u.StartAhead, u.StateDirectory = []string{"echo"}, true, []string{"echo"}
	b = idleBench(t, "", []manifest.Socket{{Name: "echo", Listen: []string{"0.0.0.0:0"}, FDName: "echo", Service: "echo"}}, u)
	if err := b.StartAhead(t.Context()); err != nil {
		t.Fatal(err)
	}
	return b, b.launch[0].ahead.proc.pid
}

func TestStartAhead(t *testing.T) {
	b, pid := aheadBench(t)
	if _, err := os.Stat(filepath.Join(b.cfg.StateRoot, "echo")); !os.IsNotExist(err) {
		t.Errorf("directories are made before the service is started: %v", err)
	}
	b.run()
	s := b.until("readiness", func(s manifest.Service) bool { return s.Ready })
	if s.PID != pid || s.Restarts != 0 {
		t.Errorf("process %d is ready after %d restarts, want %d, which was started ahead", s.PID, s.Restarts, pid)
	}
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	b.until("restart", func(s manifest.Service) bool { return s.Ready && s.Restarts == 1 })
	b.stop()
	if got, want := b.Lines("echo"), []string{"began with its directory: true"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q: of the first process alone, after all was there for it", got, want)
	}
}

// What has died or hangs before the word is a service that has died or hangs.
func TestLostAfterStartAhead(t *testing.T) {
	for name, signal := range map[string]unix.Signal{"died": unix.SIGKILL, "hangs": unix.SIGSTOP} {
		t.Run(name, func(t *testing.T) {
			b, pid := aheadBench(t)
			b.launch[0].unit.TimeoutStart, b.launch[0].unit.TimeoutStop = 2*time.Second, time.Second
			if err := unix.Kill(pid, signal); err != nil {
				t.Fatal(err)
			}
			b.run()
			s := b.until("readiness", func(s manifest.Service) bool { return s.Ready })
			if s.PID == pid || s.Restarts == 0 {
				t.Errorf("process %d is ready after %d restarts, want another than %d", s.PID, s.Restarts, pid)
			}
		})
	}
}

// A process that has other listeners than the service is to have is not it, and
// lets go of them before those are made: they may be of the same port.
func TestMovedAfterStartAhead(t *testing.T) {
	b, pid := aheadBench(t)
	l, err := net.FileListener(b.sockets["echo"].files[0])
	if err != nil {
		t.Fatal(err)
	}
	to := fmt.Sprintf("127.0.0.1:%d", l.Addr().(*net.TCPAddr).Port)
	l.Close()
	b.Move("echo", []string{to})
	b.run()
	s := b.until("readiness", func(s manifest.Service) bool { return s.Ready })
	if s.PID == pid || s.Restarts != 0 {
		t.Errorf("process %d is ready after %d restarts, want another than %d", s.PID, s.Restarts, pid)
	}
	untilGone(t, pid)
}

func TestLeaveAfterStartAhead(t *testing.T) {
	b, pid := aheadBench(t)
	b.Leave("other")
	b.Leave("echo")
	untilGone(t, pid)
	b.run()
	b.untilReady()
	if got := b.Status(); len(got) != 0 {
		t.Errorf("got %+v, want no service", got)
	}
}

// What was started ahead and never told to begin ends with the supervisor.
func TestStopAfterStartAhead(t *testing.T) {
	b, pid := aheadBench(t)
	b.close()
	untilGone(t, pid)
	if lines := b.Lines("echo"); len(lines) != 0 {
		t.Errorf("it has begun: %q", lines)
	}
}

func untilGone(t *testing.T, pid int) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); unix.Kill(pid, 0) == nil; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("process %d is still there", pid)
		}
	}
}
