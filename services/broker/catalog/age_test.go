package catalog

import (
	"testing"
	"time"

	"github.com/waysideos/wayside/services/broker/frame"
	"github.com/waysideos/wayside/services/vfs"
)

// TestAge: it goes on where it was saved, does not count the time between, and
// begins anew when its file is lost or damaged.
func TestAge(t *testing.T) {
	fsys := vfs.NewCrashable(1)
	open := func() *age {
		t.Helper()
		a, err := openAge(fsys)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	a := open()
	a.started = a.started.Add(-time.Hour)
	a.setScrub(scrubbing{Began: 5, Topic: "t", Partition: 1, Offset: 70})
	if err := a.save(); err != nil {
		t.Fatal(err)
	}
	fsys = fsys.Crash()
	if a = open(); a.now() < 3_600_000 || a.now() > 3_700_000 || a.scrub().Offset != 70 {
		t.Errorf("age %d ms, scrub %+v, want an hour and offset 70", a.now(), a.scrub())
	}
	if err := frame.WriteFile(fsys, keepName, []byte("rotten")); err != nil {
		t.Fatal(err)
	}
	if a = open(); a.now() > 100_000 {
		t.Errorf("age %d ms from a damaged file, want 0", a.now())
	}
	if err := frame.WriteFile(fsys, keepName, frame.Header(keepKind, 9)); err != nil {
		t.Fatal(err)
	}
	if _, err := openAge(fsys); err == nil {
		t.Error("a file of a later release was read")
	}
}

func FuzzAge(f *testing.F) {
	f.Add(frame.Append(frame.Header(keepKind, keepVersion), []byte(`{"age":5,"scrub":{"began":3,"topic":"t"}}`)))
	f.Fuzz(func(t *testing.T, b []byte) {
		if k, err := parseKept(b); err == nil && (k.Age < 0 || k.Scrub.Offset < 0) {
			t.Errorf("took %+v", k)
		}
	})
}
