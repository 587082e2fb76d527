package store_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waysideos/wayside/services/broker/store"
	"github.com/waysideos/wayside/services/vfs"
)

type ignore struct{}

func (ignore) Changed() {}

// unhurried appends a record of which nobody waits until it is durable.
func unhurried(t *testing.T, l *store.Log, value string) {
	t.Helper()
	b := batch(spec{values: []string{value}})
	h, err := store.Check(b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Append(b, h, false); err != nil {
		t.Fatal(err)
	}
}

// TestLinger: a sync that nobody waits for comes after the linger when somebody
// reads, and gathers more under load, for four lingers and until there is a
// mebibyte. When nobody reads it is twenty lingers and 16 MiB, towards the end
// of a segment one.
func TestLinger(t *testing.T) {
	const linger = 5 * time.Millisecond
	for _, tc := range []struct {
		name    string
		read    bool
		bytes   int           // of a batch each millisecond
		want    time.Duration // from the first append to its sync
		segment int64         // 0: the default
	}{
		{"quiet", true, 1000, linger, 0},
		{"busy", true, 20_000, 4 * linger, 0},
		{"a mebibyte is there", true, 300_000, linger, 0},
		{"half a mebibyte at a time", true, 150_000, 2 * linger, 0},
		{"quiet, nobody reads", false, 1000, 20 * linger, 0},
		{"busy, nobody reads", false, 20_000, 20 * linger, 0},
		{"16 MiB are there, nobody reads", false, 1_000_000, 4 * linger, 0},
		{"a mebibyte is there, nobody reads, the segment ends", false, 300_000, linger, 16 << 20},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := open(t, vfs.NewCrashable(1), store.Options{Linger: linger, Settings: store.Settings{SegmentBytes: tc.segment}})
				defer l.Close()
				if tc.read {
					l.Watch(ignore{})
				}
				begin, value := time.Now(), strings.Repeat("x", tc.bytes)
				for hw := int64(0); hw == 0; _, hw = l.Bounds() {
					unhurried(t, l, value)
					time.Sleep(time.Millisecond)
					synctest.Wait()
				}
				if got := time.Since(begin); got != tc.want {
					t.Errorf("the first record is durable after %v, want %v", got, tc.want)
				}
			})
		})
	}
}

// TestLingerEndsForReader: whoever begins to read need not wait for a sync that
// was put off because nobody did.
func TestLingerEndsForReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const linger = 5 * time.Millisecond
		l := open(t, vfs.NewCrashable(1), store.Options{Linger: linger})
		defer l.Close()
		unhurried(t, l, "x")
		time.Sleep(linger / 2)
		begin := time.Now()
		if err := l.Wait(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		if got := time.Since(begin); got > linger {
			t.Errorf("durable %v after the reader came, want a linger at most", got)
		}
	})
}

// TestLingerEndsWithTheLog: closing does not wait for the rest of a linger, of
// which a box with many partitions would see the sum.
func TestLingerEndsWithTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const linger = 5 * time.Millisecond
		l := open(t, vfs.NewCrashable(1), store.Options{Linger: linger})
		unhurried(t, l, "x")
		time.Sleep(linger / 2)
		begin := time.Now()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if got := time.Since(begin); got > 0 {
			t.Errorf("closed after %v, want at once", got)
		}
	})
}
