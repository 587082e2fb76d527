package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/waysideos/wayside/services/connect/connecttest"
)

// TestProfileChanges: a connector that is new in the profile listens, one with
// an error is refused with its place, and the one before goes on.
func TestProfileChanges(t *testing.T) {
	first, second := connecttest.FreeAddress(t), connecttest.FreeAddress(t)
	file := filepath.Join(t.TempDir(), "site.yaml")
	write := func(entries string) {
		t.Helper()
		text := "version: 1\nsite: box\nconnect:\n  http:\n" + entries
		if err := os.WriteFile(file+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
	entry := func(name, listen string) string {
		return fmt.Sprintf("    - {name: %s, listen: %q, posts: [{path: /x, topic: x}]}\n", name, listen)
	}
	answers := func(address string) func() bool {
		return func() bool {
			c, err := net.Dial("tcp", address)
			if err == nil {
				c.Close()
			}
			return err == nil
		}
	}
	write(entry("one", first))
	log := &connecttest.Log{}
	f := connectFlags{common: common{site: file}, broker: []string{connecttest.FreeAddress(t)}}
	profile, err := f.profile()
	if err != nil {
		t.Fatal(err)
	}
	logger := slog.New(slog.NewTextHandler(log, nil))
	svc, err := newConnectors(f, profile, logger)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	ctx := t.Context()
	go func() { ended <- svc.Run(ctx) }()
	t.Cleanup(func() {
		select {
		case <-ended:
		case <-time.After(30 * time.Second):
			t.Error("the service does not end")
		}
	})
	connecttest.Until(t, "the first listens", answers(first))
	write(entry("one", first) + entry("two", second))
	connecttest.Until(t, "the second listens", answers(second))
	write(entry("one", first) + "    - {name: Two, listen: \":x\", posts: [{path: /x, topic: x}]}\n")
	connecttest.Until(t, "the error is told", func() bool {
		return strings.Contains(svc.Status().Summary, "site.yaml:6:") && strings.Contains(log.String(), "connect.http[1].name")
	})
	if !answers(first)() || !answers(second)() {
		t.Error("a profile with an error has ended a connector")
	}
	write(entry("two", second))
	connecttest.Until(t, "the first is gone", func() bool {
		st := svc.Status()
		return len(st.Devices) == 1 && !strings.Contains(st.Summary, "not in force") && !answers(first)()
	})
	if d := svc.Status().Devices[0]; d.Name != "two" || d.Restarts != 0 || !answers(second)() {
		t.Errorf("what did not change was disturbed: %+v", d)
	}
}

// What changes between the reading of a profile and the watch is no less a
// change; and each is told once.
func TestWatchFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "site.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
	write("of the start")
	seen, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	write("changed")
	ctx, cancel := context.WithCancel(t.Context())
	changes := make(chan struct{}, 10)
	var wg sync.WaitGroup
	wg.Go(func() { watchFile(ctx, file, seen, func() { changes <- struct{}{} }) })
	defer wg.Wait()
	defer cancel()
	told := func(what string) {
		t.Helper()
		select {
		case <-changes:
		case <-time.After(30 * time.Second):
			t.Fatalf("%s was not told", what)
		}
	}
	told("the change before the watch")
	write("changed again")
	told("the change under the watch")
	if len(changes) > 0 {
		t.Error("a change was told twice")
	}
}
