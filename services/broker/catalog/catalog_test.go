package catalog_test

import (
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/waysideos/wayside/services/broker/catalog"
	"github.com/waysideos/wayside/services/broker/meta"
	"github.com/waysideos/wayside/services/broker/store"
	"github.com/waysideos/wayside/services/vfs"
)

func open(t *testing.T, fsys vfs.FS) *catalog.Catalog {
	t.Helper()
	c, _ := openWith(t, fsys)
	return c
}

func openWith(t *testing.T, fsys vfs.FS) (*catalog.Catalog, *meta.Store) {
	t.Helper()
	st, err := meta.Open(fsys, "meta")
	if err != nil {
		t.Fatal(err)
	}
	c, err := catalog.Open(fsys, st, catalog.Options{Syncer: store.NewSyncer(2, nil), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return c, st
}

// TestCrash cuts the power at every step of making, growing and deleting a
// topic: it is whole or not there, and its name can be used.
func TestCrash(t *testing.T) {
	for seed := range uint64(40) {
		fsys := vfs.NewCrashable(seed)
		c := open(t, fsys)
		if _, err := c.Create("kept", 2, nil); err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex // of cuts: the hook is called from many goroutines
		var cuts []*vfs.Crashable
		fsys.SetHook(func(vfs.Op, string) error {
			mu.Lock()
			defer mu.Unlock()
			cuts = append(cuts, fsys.CrashClone())
			return nil
		})
		topic, err := c.Create("t", 2, map[string]string{"retention.ms": "-1"})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Grow("t", 3); err != nil {
			t.Fatal(err)
		}
		if err := c.Delete("t"); err != nil {
			t.Fatal(err)
		}
		fsys.SetHook(nil)
		for i, cut := range cuts {
			c := open(t, cut)
			if got := c.Get("kept"); got == nil || got.Partitions[1].Err != nil {
				t.Fatalf("seed %d cut %d: the other topic is damaged", seed, i)
			}
			if got := c.Get("t"); got != nil {
				if got.ID != topic.ID || got.Partitions[got.Topic.Partitions-1].Err != nil {
					t.Fatalf("seed %d cut %d: topic is not whole: %+v", seed, i, got)
				}
				continue
			}
			if _, err := c.Create("t", 1, nil); err != nil {
				t.Fatalf("seed %d cut %d: make the topic again: %v", seed, i, err)
			}
		}
	}
}

func TestRefusals(t *testing.T) {
	c := open(t, vfs.NewCrashable(1))
	if _, err := c.Create("a", 1, nil); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name       string
		partitions int32
		config     map[string]string
		want       error
	}{
		{"a", 1, nil, catalog.ErrExists},
		{"", 1, nil, catalog.ErrName},
		{"..", 1, nil, catalog.ErrName},
		{"a/b", 1, nil, catalog.ErrName},
		{"ä", 1, nil, catalog.ErrName},
		{strings.Repeat("a", 250), 1, nil, catalog.ErrName},
		{"b", 0, nil, catalog.ErrPartitions},
		{"b", 10001, nil, catalog.ErrPartitions},
		{"b", 1, map[string]string{"no.such": "1"}, catalog.ErrConfig},
		{"b", 1, map[string]string{"retention.ms": "soon"}, catalog.ErrConfig},
		{"b", 1, map[string]string{"cleanup.policy": "burn"}, catalog.ErrConfig},
	} {
		if _, err := c.Create(tt.name, tt.partitions, tt.config); !errors.Is(err, tt.want) {
			t.Errorf("create %q, %d, %v: got %v, want %v", tt.name, tt.partitions, tt.config, err, tt.want)
		}
	}
}

// TestUnknownRecordsAreKept: records whose topic the state does not know are
// not written over.
func TestUnknownRecordsAreKept(t *testing.T) {
	fsys := vfs.NewCrashable(1)
	c := open(t, fsys)
	if err := fsys.MkdirAll("topics/t-0"); err != nil {
		t.Fatal(err)
	}
	f, err := fsys.Create("topics/t-0/00000000000000000000.log")
	if err != nil {
		t.Fatal(err)
	}
	f.WriteAt([]byte("records"), 0)
	if _, err := c.Create("t", 1, nil); err == nil || !strings.Contains(err.Error(), "move it away") {
		t.Errorf("got %v, want a refusal", err)
	}
}
