package kafka

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

func TestBackoff(t *testing.T) {
	const low, high = 100 * time.Millisecond, 5 * time.Second
	for tries, full := range map[int]time.Duration{0: low, 1: low, 2: 2 * low, 4: 8 * low, 7: high, 19: high, 1000: high} {
		seen := map[time.Duration]bool{}
		for range 50 {
			d := Backoff(tries, low, high)
			seen[d] = true
			if d < full/2 || d > full {
				t.Fatalf("Backoff(%d) = %v, want %v to %v", tries, d, full/2, full)
			}
		}
		if len(seen) < 10 {
			t.Errorf("Backoff(%d) has %d values in 50, want jitter", tries, len(seen))
		}
	}
}

func TestLoggerTellsOnceAMinute(t *testing.T) {
	var out bytes.Buffer
	l := newLogger(slog.New(slog.NewTextHandler(&out, nil)))
	now := time.Unix(0, 0)
	l.now = func() time.Time { return now }
	for range 10 {
		l.Log(kgo.LogLevelWarn, "unable to open connection to broker", "addr", "hq:9092")
	}
	l.Log(kgo.LogLevelError, "something else")
	l.Log(kgo.LogLevelInfo, "chatter")
	now = now.Add(time.Minute)
	l.Log(kgo.LogLevelWarn, "unable to open connection to broker", "addr", "hq:9092")
	if got := strings.Count(out.String(), "addr=hq:9092"); got != 2 {
		t.Errorf("the repeated warning is logged %d times, want 2:\n%s", got, &out)
	}
	if got := strings.Count(out.String(), "level=WARN"); got != 3 {
		t.Errorf("%d warnings are logged, want 3:\n%s", got, &out)
	}
	if l.Level() != kgo.LogLevelWarn {
		t.Errorf("Level = %v, want warn", l.Level())
	}
}

func TestNewClient(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close() // nobody answers there
	for _, remote := range []bool{false, true} {
		cl, err := NewClient(Config{Bootstrap: []string{ln.Addr().String()}, ClientID: "t", Remote: remote}, kgo.RequiredAcks(kgo.AllISRAcks()))
		if err != nil {
			t.Fatal(err)
		}
		if got := cl.OptValue(kgo.ClientID); got != "t" {
			t.Errorf("client id = %v, want t", got)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if err := cl.Ping(ctx); err == nil {
			t.Error("Ping without a cluster, want an error")
		}
		cl.Close()
	}
	if _, err := NewClient(Config{}); err == nil {
		t.Error("NewClient without a bootstrap server, want an error")
	}
}
