package status

import (
	"context"
	"log/slog"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/waysideos/wayside/services/manifest"
)

func TestConnectionsAreLimited(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	few := newLimited(l, 1)
	for range 2 {
		if _, err := net.Dial("unix", l.Addr().String()); err != nil {
			t.Fatal(err)
		}
		c, err := few.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if got := len(few.open); got != 1 {
			t.Errorf("got %d connections counted, want 1", got)
		}
		c.Close()
		c.Close() // counts once
	}
	l.Close()
	if c, err := few.Accept(); err == nil || len(few.open) != 0 {
		t.Errorf("got %v and %d counted from a closed listener, want an error and none", c, len(few.open))
	}
}

// Idle clients, as many as may be, must not keep Serve from ending.
func TestServeEndsWithIdleClients(t *testing.T) {
	sock := filepath.Join(t.TempDir(), "init.sock")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- Serve(ctx, sock, Config{Box: func() (b manifest.Box) { return b }, Log: slog.New(slog.DiscardHandler)})
	}()
	for range 2 * maxConns {
		c, err := net.Dial("unix", sock)
		for deadline := time.Now().Add(20 * time.Second); err != nil && time.Now().Before(deadline); {
			c, err = net.Dial("unix", sock)
		}
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("got %v when told to end, want nothing", err)
		}
	case <-time.After(20 * time.Second):
		t.Error("Serve did not end within 20 s")
	}
}
