package spool

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/vfs"
)

func record(i int) *kgo.Record {
	return &kgo.Record{
		Topic: "t", Key: fmt.Appendf(nil, "%d", i), Value: bytes.Repeat([]byte{byte(i)}, 100+i%50), Timestamp: time.UnixMilli(int64(1e12 + i)),
		Headers: []kgo.RecordHeader{{Key: "h", Value: []byte("v")}, {Key: "empty"}},
	}
}

func records(from, to int) (rs []*kgo.Record) {
	for i := from; i < to; i++ {
		rs = append(rs, record(i))
	}
	return rs
}

func open(t *testing.T, fsys vfs.FS, bound int64) *Spool {
	t.Helper()
	s, _, err := Open(fsys, "spool/a", bound)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func add(t *testing.T, s *Spool, from, to int) (dropped int64) {
	t.Helper()
	dropped, err := s.Append(records(from, to))
	if err != nil {
		t.Fatal(err)
	}
	return dropped
}

// drain reads all that waits, a few records at a time.
func drain(t *testing.T, s *Spool) (keys []string) {
	t.Helper()
	for s.Len() > 0 {
		rs, first, err := s.Read(s.Head(), 1000)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rs {
			keys = append(keys, string(r.Key))
		}
		if err := s.Done(first + uint64(len(rs))); err != nil {
			t.Fatal(err)
		}
	}
	return keys
}

func keys(from, to int) (all []string) {
	for i := from; i < to; i++ {
		all = append(all, fmt.Sprint(i))
	}
	return all
}

func TestRecordsComeBackAsTheyWere(t *testing.T) {
	fsys := vfs.NewCrashable(1)
	s := open(t, fsys, 1<<20)
	want := []*kgo.Record{record(1), {Topic: "t", Timestamp: time.UnixMilli(-5)}, {Topic: "", Key: []byte{}, Value: []byte{}, Timestamp: time.UnixMilli(0)}}
	if _, err := s.Append(want); err != nil {
		t.Fatal(err)
	}
	got, _, err := s.Read(0, 1<<20)
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(kgo.Record{}), cmp.Comparer(func(a, b kgo.RecordAttrs) bool { return true })); diff != "" || err != nil {
		t.Errorf("records (%v, -want +got):\n%s", err, diff)
	}
}

func TestOrderOverReopening(t *testing.T) {
	fsys := vfs.NewCrashable(1)
	s := open(t, fsys, 1<<20)
	add(t, s, 0, 500)
	rs, first, _ := s.Read(s.Head(), 5000)
	if err := s.Done(first + uint64(len(rs))); err != nil {
		t.Fatal(err)
	}
	n := len(rs)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, fsys, 1<<20)
	add(t, s, 500, 600)
	if diff := cmp.Diff(keys(n, 600), drain(t, s)); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
	if names, _ := fsys.ReadDir("spool/a"); len(names) != 1 { // the file head
		t.Errorf("%d files are left of an empty spool", len(names))
	}
}

func TestOldestGo(t *testing.T) {
	s := open(t, vfs.NewCrashable(1), 40000)
	dropped := add(t, s, 0, 1000)
	if s.size() > 40000 || dropped == 0 {
		t.Errorf("the spool has %d bytes of 40000, %d dropped", s.size(), dropped)
	}
	if diff := cmp.Diff(keys(int(dropped), 1000), drain(t, s)); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
}

// After any power cut, all that was appended and not given away is there, in
// order; what was given away may come again.
func TestPowerCut(t *testing.T) {
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 1))
		fsys := vfs.NewCrashable(seed)
		next, done := 0, 0
		for range 4 {
			s := open(t, fsys, 1<<20)
			if got := int(s.Len()); got < next-done {
				t.Fatalf("seed %d: %d records wait after a power cut, want at least %d", seed, got, next-done)
			}
			for range rng.IntN(20) {
				n := rng.IntN(100)
				add(t, s, next, next+n)
				next += n
				if rng.IntN(2) == 0 {
					rs, first, err := s.Read(s.Head(), int64(rng.IntN(20000)))
					if err != nil {
						t.Fatalf("seed %d: %v", seed, err)
					}
					for i, r := range rs {
						if i > 0 || len(rs) > 0 {
							var k int
							fmt.Sscan(string(r.Key), &k)
							done = max(done, k+1)
						}
					}
					if err := s.Done(first + uint64(len(rs))); err != nil {
						t.Fatal(err)
					}
				}
				if rng.IntN(5) == 0 {
					if err := s.Save(); err != nil {
						t.Fatal(err)
					}
				}
			}
			fsys = fsys.Crash()
		}
		got := drain(t, open(t, fsys, 1<<20))
		if want := keys(next-len(got), next); !cmp.Equal(want, got) || len(got) < next-done {
			t.Fatalf("seed %d: got %d records, want the last of %d, at least %d", seed, len(got), next, next-done)
		}
	}
}

// A disk that fails says so, and what was kept before stays.
func TestFailingDisk(t *testing.T) {
	for op, names := range map[vfs.Op]string{vfs.OpWrite: "spool/a/*", vfs.OpSync: "spool/a/*", vfs.OpCreate: "spool/a/*", vfs.OpSyncDir: "spool/a"} {
		fsys := vfs.NewCrashable(3)
		s := open(t, fsys, 1<<20)
		add(t, s, 0, 100)
		s.closeOut()
		fail := errors.New("disk fault")
		fsys.SetHook(vfs.FailNth(op, names, 1, fail, true))
		if _, err := s.Append(records(100, 200)); !errors.Is(err, fail) {
			t.Errorf("%s: got %v, want the disk's error", op, err)
		}
		fsys.SetHook(nil)
		add(t, s, 200, 300)
		if diff := cmp.Diff(append(keys(0, 100), keys(200, 300)...), drain(t, s)); diff != "" {
			t.Errorf("%s: records (-want +got):\n%s", op, diff)
		}
	}
}

// What is damaged is given up, and no more than that.
func TestDamage(t *testing.T) {
	fsys := vfs.NewCrashable(1)
	s := open(t, fsys, 400000)
	add(t, s, 0, 1000)
	second := s.segs[1]
	f, err := fsys.Open(s.path(second.first))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte{0xFF}, second.size/2); err != nil {
		t.Fatal(err)
	}
	s, lost, err := Open(fsys, "spool/a", 400000)
	if err != nil || lost != 1 {
		t.Fatalf("%d segments are damaged (%v), want 1", lost, err)
	}
	got := drain(t, s)
	if len(got) < 800 || len(got) >= 1000 || got[0] != "0" || got[len(got)-1] != "999" {
		t.Errorf("got %d records from %s to %s", len(got), got[0], got[len(got)-1])
	}
}

// A damaged header takes no record away: the file's name says the same.
func TestDamagedHeader(t *testing.T) {
	for at := range int64(headerSize) {
		fsys := vfs.NewCrashable(1)
		s := open(t, fsys, 1<<20)
		add(t, s, 0, 10)
		f, err := fsys.Open(s.path(0))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt([]byte{0xA5}, at); err != nil {
			t.Fatal(err)
		}
		s, lost, err := Open(fsys, "spool/a", 1<<20)
		if err != nil || lost != 1 {
			t.Fatalf("byte %d: %d segments are damaged (%v), want 1", at, lost, err)
		}
		if diff := cmp.Diff(keys(0, 10), drain(t, s)); diff != "" {
			t.Errorf("byte %d: records (-want +got):\n%s", at, diff)
		}
	}
}

// A segment that the disk does not give back is set aside; the others are read,
// and what is appended has a place.
func TestUnreadableSegment(t *testing.T) {
	for _, op := range []vfs.Op{vfs.OpOpen, vfs.OpRead} {
		fsys := vfs.NewCrashable(1)
		s := open(t, fsys, 400000)
		add(t, s, 0, 1000)
		last := s.last().first
		fsys.SetHook(vfs.FailNth(op, s.path(last), 1, syscall.EMFILE, false))
		if _, _, err := Open(fsys, "spool/a", 400000); !errors.Is(err, syscall.EMFILE) {
			t.Fatalf("%s: got %v for want of descriptors, which says nothing of the disk", op, err)
		}
		fsys.SetHook(vfs.FailNth(op, s.path(last), 1, syscall.EIO, false))
		s, lost, err := Open(fsys, "spool/a", 400000)
		if err != nil || lost != 1 {
			t.Fatalf("%s: %d segments are lost (%v), want 1", op, lost, err)
		}
		add(t, s, 1000, 1010)
		want := append(keys(0, int(last)), keys(1000, 1010)...)
		if diff := cmp.Diff(want, drain(t, s)); diff != "" {
			t.Errorf("%s: records (-want +got):\n%s", op, diff)
		}
		if _, err := fsys.Open(s.path(last) + asideSuffix); err != nil {
			t.Errorf("%s: what cannot be read is not kept: %v", op, err)
		}
	}
}

func FuzzSegment(f *testing.F) {
	whole := header(7)
	for i := range 3 {
		whole = appendRecord(whole, record(i))
	}
	f.Add(whole)
	f.Add(whole[:len(whole)-3])
	f.Add([]byte("WSPL"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := newReader(bytes.NewReader(data), 7)
		if err != nil {
			return
		}
		total := int64(headerSize)
		for {
			rec, n, err := r.next()
			if err != nil {
				break
			}
			total += n
			if again := appendRecord(nil, rec); !bytes.Equal(again, data[total-n:total]) {
				t.Fatalf("record %v is written as %x, was %x", rec, again, data[total-n:total])
			}
		}
		if total > int64(len(data)) {
			t.Fatalf("read %d bytes of %d", total, len(data))
		}
	})
}
