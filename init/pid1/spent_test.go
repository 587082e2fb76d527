//go:build linux

package pid1

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestSpentTells(t *testing.T) {
	s := newSpent()
	s.step("find the booted slot", 1250*time.Millisecond)
	s.step("clock", time.Millisecond) // too short to be told of
	s.ready("broker", os.Getpid(), 300*time.Millisecond)
	got := s.lines([]took{{"ext4", 40 * time.Millisecond}, {"crc16", 9 * time.Millisecond}})
	if len(got) != 3 {
		t.Fatalf("got %q", got)
	}
	if !strings.HasPrefix(got[0], "spent until broker was ready: elapsed=0.") || !strings.Contains(got[0], " of_it_modules=0.30 ") {
		t.Errorf("got %q", got[0])
	}
	if want := "spent on steps: find-the-booted-slot=1.25"; got[1] != want {
		t.Errorf("got %q, want %q", got[1], want)
	}
	if want := "spent on modules: ext4=0.04"; got[2] != want {
		t.Errorf("got %q, want %q", got[2], want)
	}
}

func TestIdleOf(t *testing.T) {
	if got, want := idleOf([]byte("cpu  3 0 5 250 50 0 0 0 0 0\ncpu0 3 0 5 1 1 0 0 0 0 0\n")), 3*time.Second; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := idleOf([]byte("intr 1\n")); got != 0 {
		t.Errorf("got %s of a text that does not say", got)
	}
}

func TestProcessUsage(t *testing.T) {
	file := filepath.Join(t.TempDir(), "stat")
	if err := os.WriteFile(file, []byte("7 (a ) 1 b) S 1 7 7 0 -1 0 100 0 42 0 150 25 0 0 20 0 1 0 9\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := processUsage(file)
	if err != nil {
		t.Fatal(err)
	}
	if want := (usage{user: 1500 * time.Millisecond, kernel: 250 * time.Millisecond, faults: 42}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if _, err := processUsage(file + ".not"); err == nil {
		t.Error("a process that is not there has used something")
	}
}
