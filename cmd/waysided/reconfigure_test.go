package main

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

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
