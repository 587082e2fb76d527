package store_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waysideos/wayside/services/broker/store"
	"github.com/waysideos/wayside/services/vfs"
)

// TestLinger: a sync that nobody waits for comes after the linger; under load
// it gathers more, for four lingers and until there is a mebibyte.
func TestLinger(t *testing.T) {
	const linger = 5 * time.Millisecond
	for _, tc := range []struct {
		name  string
		bytes int           // of a batch each millisecond
		want  time.Duration // from the first append to its sync
	}{
		{"quiet", 1000, linger},
		{"busy", 20_000, 4 * linger},
		{"a mebibyte is there", 300_000, linger},
		{"half a mebibyte at a time", 150_000, 2 * linger},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := open(t, vfs.NewCrashable(1), store.Options{Linger: linger})
				defer l.Close()
				begin, value := time.Now(), strings.Repeat("x", tc.bytes)
				for hw := int64(0); hw == 0; _, hw = l.Bounds() {
					b := batch(spec{values: []string{value}})
					h, err := store.Check(b)
					if err != nil {
						t.Fatal(err)
					}
					if _, err := l.Append(b, h, false); err != nil {
						t.Fatal(err)
					}
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
