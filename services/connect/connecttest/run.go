package connecttest

import (
	"bytes"
	"context"
	"log/slog"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/waysideos/wayside/services/connect"
	"github.com/waysideos/wayside/services/vfs"
)

// Running is the frame with connectors in it.
type Running struct {
	*connect.Service
	Log *Log

	t      testing.TB
	cancel context.CancelFunc
	ended  chan error
}

// Log is all that was logged.
type Log struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write implements io.Writer.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

// String is the log's text.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// Start runs instances against a broker until Stop, or the test's end. disk
// may be nil: nothing is kept.
func Start(t testing.TB, broker string, disk vfs.FS, secrets string, instances ...connect.Instance) *Running {
	t.Helper()
	log := &Log{}
	svc, err := connect.New(connect.Config{
		Instances: instances, Site: "box", Broker: []string{broker}, FS: disk, Secrets: secrets,
		Log: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &Running{Service: svc, Log: log, t: t, cancel: cancel, ended: make(chan error, 1)}
	go func() { r.ended <- svc.Run(ctx) }()
	select {
	case <-svc.Ready():
	case err := <-r.ended:
		t.Fatalf("connectors ended: %v", err)
	case <-time.After(wait):
		t.Fatal("connectors are not ready")
	}
	t.Cleanup(func() {
		r.Stop()
		if text := log.String(); t.Failed() {
			t.Logf("states %+v, log:\n%s", svc.States(), text[max(0, len(text)-4000):])
		}
	})
	return r
}

// Stop ends the connectors; they must not take long.
func (r *Running) Stop() {
	if r.cancel == nil {
		return
	}
	r.cancel()
	r.cancel = nil
	select {
	case <-r.ended:
	case <-time.After(wait):
		text := r.Log.String()
		stacks := make([]byte, 64<<10)
		stacks = stacks[:runtime.Stack(stacks, true)]
		r.t.Fatalf("connectors do not end:\n%s\n%s", text[max(0, len(text)-2000):], stacks)
	}
}

// State is of the connector of a name.
func (r *Running) State(name string) connect.State {
	for _, s := range r.States() {
		if s.Name == name {
			return s
		}
	}
	r.t.Fatalf("there is no connector %s", name)
	return connect.State{}
}
