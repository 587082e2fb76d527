package stage

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"syscall"
	"testing"

	"github.com/waysideos/wayside/image/verity"
	"github.com/waysideos/wayside/services/manifest"
	"github.com/waysideos/wayside/services/updater/source"
	"github.com/waysideos/wayside/services/updater/trust"
	"github.com/waysideos/wayside/services/updater/updatertest"
	"github.com/waysideos/wayside/services/vfs"
)

const (
	front = 1 << 20 // of the test's slot
	back  = 64 << 10
	node  = "vda3"
)

func TestMain(m *testing.M) {
	chunk, syncEvery = 64<<10, 256<<10
	m.Run()
}

// newJob stages rel, read as a whole from src, into the device of fsys.
func newJob(t *testing.T, fsys vfs.FS, rel updatertest.Release, src source.Source) *Job {
	t.Helper()
	slot, err := OpenSlot(updatertest.Devices{FS: fsys, Front: front, Back: back}, node)
	if err != nil {
		t.Fatal(err)
	}
	return &Job{Target: rel.Target, UKI: trust.File{Name: "uki", Length: int64(len(rel.UKI)), SHA256: rel.SHA256},
		Content: Whole{Source: src, Root: "root", UKI: "uki"}, Slot: slot, Save: func(Progress) error { return nil },
		Log: slog.New(slog.DiscardHandler)}
}

func files(rel updatertest.Release) updatertest.Files {
	return updatertest.Files{"root": rel.Content, "uki": rel.UKI}
}

func newDisk(t *testing.T, seed uint64) *vfs.Crashable {
	t.Helper()
	c := vfs.NewCrashable(seed)
	updatertest.NewDevice(t, c, node, front, back)
	return c
}

// whole says whether the slot holds all of rel, as init would see it.
func whole(t *testing.T, fsys vfs.FS, rel updatertest.Release) error {
	t.Helper()
	j := newJob(t, fsys, rel, nil)
	defer j.Slot.Close()
	if err := j.Staged(); err != nil {
		return err
	}
	hash, err := hex.DecodeString(rel.Target.RootHash)
	if err != nil {
		t.Fatal(err)
	}
	if err := verity.Verify(t.Context(), j.Slot, rel.Target.DataBlocks, hash); err != nil {
		return err
	}
	h, err := j.Slot.Header()
	if err != nil {
		return err
	}
	got, err := io.ReadAll(j.Slot.Kernel(h))
	if err == nil && !bytes.Equal(got, rel.UKI) {
		err = errors.New("the kernel image is another")
	}
	return err
}

func TestStage(t *testing.T) {
	rel := updatertest.NewRelease(t, "2.0", 2, 200, 40_000)
	disk := newDisk(t, 1)
	if err := newJob(t, disk, rel, files(rel)).Run(t.Context(), Progress{}); err != nil {
		t.Fatal(err)
	}
	if err := whole(t, disk.Crash(), rel); err != nil {
		t.Errorf("after a power cut: %v", err)
	}
}

// TestNotWhatWasSigned: the header never comes back for it, and progress is
// forgotten, so that the next source begins anew.
func TestNotWhatWasSigned(t *testing.T) {
	rel := updatertest.NewRelease(t, "2.0", 2, 200, 40_000)
	for name, spoil := range map[string]func(updatertest.Files){
		"a flipped bit of the system": func(f updatertest.Files) { f["root"] = flipped(f["root"], 1<<19) },
		"a flipped bit of the salt":   func(f updatertest.Files) { f["root"] = flipped(f["root"], 200*4096+90) },
		"no superblock":               func(f updatertest.Files) { f["root"] = flipped(f["root"], 200*4096) },
		"a flipped bit of the kernel": func(f updatertest.Files) { f["uki"] = flipped(f["uki"], 33_333) },
		"another release":             func(f updatertest.Files) { f["root"] = updatertest.NewRelease(t, "2.0", 3, 200, 9).Content },
	} {
		t.Run(name, func(t *testing.T) {
			disk, src := newDisk(t, 1), files(rel)
			spoil(src)
			j := newJob(t, disk, rel, src)
			var kept Progress
			j.Save = func(p Progress) error { kept = p; return nil }
			if err := j.Run(t.Context(), Progress{}); !errors.Is(err, ErrContent) {
				t.Fatalf("got %v, want %v", err, ErrContent)
			}
			if err := whole(t, disk, rel); err == nil {
				t.Fatal("the slot counts as whole")
			}
			j.Content = Whole{Source: files(rel), Root: "root", UKI: "uki"}
			if err := j.Run(t.Context(), kept); err != nil {
				t.Fatalf("from a good source: %v", err)
			}
			if err := whole(t, disk.Crash(), rel); err != nil {
				t.Errorf("from a good source: %v", err)
			}
		})
	}
}

func flipped(b []byte, at int) []byte {
	b = bytes.Clone(b)
	b[at] ^= 4
	return b
}

// TestRoom: what does not fit is refused before the first byte.
func TestRoom(t *testing.T) {
	rel := updatertest.NewRelease(t, "2.0", 2, 200, 40_000)
	big := rel.Target
	big.DataBlocks = front/4096 + 1
	big.RootBytes = verity.Size(big.DataBlocks)
	uki := rel.Target
	uki.UKIBytes = manifest.StagedMax + 1
	lie := rel.Target
	lie.RootBytes--
	for _, tt := range []struct {
		name   string
		target func(j *Job)
		room   bool
	}{
		{"system", func(j *Job) { j.Target = big }, true},
		{"kernel", func(j *Job) { j.Target = uki; j.UKI.Length = uki.UKIBytes }, true},
		{"contradiction", func(j *Job) { j.Target = lie }, false},
	} {
		disk := newDisk(t, 1)
		disk.SetHook(vfs.FailNth(vfs.OpWrite, "*", 1, syscall.EROFS, true))
		j := newJob(t, disk, rel, files(rel))
		tt.target(j)
		err := j.Run(t.Context(), Progress{})
		if err == nil || errors.Is(err, syscall.EROFS) || errors.Is(err, ErrRoom) != tt.room {
			t.Errorf("%s: got %v, want it refused before a write", tt.name, err)
		}
	}
}

// TestPowerCutAtEveryWrite: the slot holds a whole older release. Whenever the
// power goes, the slot says that nothing is staged, or holds all of the new
// one or all of the old, and the next run ends well without fetching again
// what was kept.
func TestPowerCutAtEveryWrite(t *testing.T) {
	old := updatertest.NewRelease(t, "1.0", 1, 180, 40_000)
	rel := updatertest.NewRelease(t, "2.0", 2, 220, 50_000)
	t.Run("whole", func(t *testing.T) {
		cutEverywhere(t, old, rel, Whole{Source: files(rel), Root: "root", UKI: "uki"})
	})
	t.Run("delta", func(t *testing.T) { cutEverywhere(t, old, rel, deltaOf(t, rel)) })
	t.Run("patch", func(t *testing.T) {
		runs := updatertest.NewProgram(t, "1.1", 1, 180, 40_000)
		rel := updatertest.Move(t, runs, "2.0", 2)
		running := newDisk(t, 7)
		if err := newJob(t, running, runs, files(runs)).Run(t.Context(), Progress{}); err != nil {
			t.Fatal(err)
		}
		_, d := published(t, rel, &runs)
		d.Have = newJob(t, running, runs, nil).Slot.Held()
		cutEverywhere(t, old, rel, d)
	})
}

func cutEverywhere(t *testing.T, old, rel updatertest.Release, content Content) {
	cuts := 0
	for seed := range uint64(2) {
		for cut := 1; ; cut++ {
			disk := newDisk(t, seed)
			if err := newJob(t, disk, old, files(old)).Run(t.Context(), Progress{}); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			j := newJob(t, disk, rel, nil)
			j.Content, j.Save = content, func(p Progress) error { return saveProgress(disk, p) }
			n := 0
			disk.SetHook(func(op vfs.Op, _ string) error {
				if op == vfs.OpRead {
					return nil
				}
				if n++; n == cut {
					cancel()
					return vfs.ErrCrashed
				}
				return nil
			})
			err := j.Run(ctx, Progress{})
			cancel()
			after := disk.Crash()
			cuts++
			ofNew, ofOld := whole(t, after, rel), whole(t, after, old)
			switch claim(t, after) {
			case "1.0":
				if ofOld != nil {
					t.Fatalf("seed %d, cut at %d: the slot claims to hold the old release and does not: %v", seed, cut, ofOld)
				}
			case "2.0":
				if ofNew != nil {
					t.Fatalf("seed %d, cut at %d: the slot claims to hold the new release and does not: %v", seed, cut, ofNew)
				}
			}
			if err == nil {
				if ofNew != nil {
					t.Fatalf("seed %d: staged, and lost over a power cut: %v", seed, ofNew)
				}
				break
			}
			j = newJob(t, after, rel, nil)
			j.Content = content
			if err := j.Run(t.Context(), readProgress(t, after)); err != nil {
				t.Fatalf("seed %d, cut at %d: next run: %v", seed, cut, err)
			}
			if err := whole(t, after.Crash(), rel); err != nil {
				t.Fatalf("seed %d, cut at %d: after the next run: %v", seed, cut, err)
			}
		}
	}
	t.Logf("%d power cuts", cuts)
}

// claim is the version that the slot's header names, "" for none.
func claim(t *testing.T, fsys vfs.FS) string {
	t.Helper()
	slot, err := OpenSlot(updatertest.Devices{FS: fsys, Front: front, Back: back}, node)
	if err != nil {
		t.Fatal(err)
	}
	defer slot.Close()
	h, err := slot.Header()
	if err != nil && !errors.Is(err, manifest.ErrNotStaged) {
		t.Fatal(err)
	}
	return h.Version
}

// TestGoesOn: after a restart nothing that was kept is fetched again.
func TestGoesOn(t *testing.T) {
	rel := updatertest.NewRelease(t, "2.0", 2, 220, 50_000)
	disk := newDisk(t, 1)
	src := &counting{Files: files(rel), cut: 700_000}
	var kept Progress
	j := newJob(t, disk, rel, src)
	j.Save = func(p Progress) error { kept = p; return nil }
	if err := j.Run(t.Context(), Progress{}); err == nil {
		t.Fatal("got a whole release from a source that ends")
	}
	if kept.Root < 650_000 {
		t.Fatalf("got %d bytes kept of 700000", kept.Root)
	}
	src.cut = 0
	if err := j.Run(t.Context(), kept); err != nil {
		t.Fatal(err)
	}
	if most := len(rel.Content) + len(rel.UKI) + 8192; src.got > most {
		t.Errorf("fetched %d bytes, want at most %d", src.got, most)
	}
	before := src.got
	if err := j.Run(t.Context(), kept); err != nil || src.got != before {
		t.Errorf("again: got %v and %d bytes fetched, want none", err, src.got-before)
	}
}

// counting counts what is read, and ends after cut bytes of a file.
type counting struct {
	updatertest.Files
	cut, got int
}

func (c *counting) Open(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	in, err := c.Files.Open(ctx, name, offset, length)
	if err != nil {
		return nil, err
	}
	if c.cut > 0 {
		in = io.NopCloser(io.MultiReader(io.LimitReader(in, int64(c.cut)), failing{}))
	}
	return struct {
		io.Reader
		io.Closer
	}{io.TeeReader(in, writerFunc(func(p []byte) { c.got += len(p) })), in}, nil
}

type failing struct{}

func (failing) Read([]byte) (int, error) {
	return 0, &source.Error{Source: "test", Name: "root", Kind: source.Unreachable, Err: io.ErrUnexpectedEOF}
}

type writerFunc func(p []byte)

func (f writerFunc) Write(p []byte) (int, error) { f(p); return len(p), nil }

// TestFailedSync: after it nothing is believed that was written before.
func TestFailedSync(t *testing.T) {
	rel := updatertest.NewRelease(t, "2.0", 2, 220, 50_000)
	for nth := 1; nth <= 5; nth++ {
		disk := newDisk(t, uint64(nth))
		j := newJob(t, disk, rel, files(rel))
		var kept Progress
		j.Save = func(p Progress) error { kept = p; return nil }
		disk.SetHook(vfs.FailNth(vfs.OpSync, node, nth, syscall.EIO, false))
		if err := j.Run(t.Context(), Progress{}); !errors.Is(err, syscall.EIO) {
			t.Fatalf("sync %d: got %v, want EIO", nth, err)
		}
		if err := j.Run(t.Context(), kept); err != nil {
			t.Fatalf("sync %d: next run: %v", nth, err)
		}
		if err := whole(t, disk.Crash(), rel); err != nil {
			t.Fatalf("sync %d: after the next run and a power cut: %v", nth, err)
		}
	}
}

func saveProgress(fsys vfs.FS, p Progress) error {
	return vfs.WriteWhole(fsys, "progress", fmt.Appendf(nil, "%s %s %d %d %t", p.RootHash, p.UKI, p.Root, p.UKIBytes, p.Done))
}

func readProgress(t *testing.T, fsys vfs.FS) (p Progress) {
	t.Helper()
	f, err := fsys.Open("progress")
	if err != nil {
		return p
	}
	defer f.Close()
	b := make([]byte, 1000)
	n, _ := f.ReadAt(b, 0)
	if _, err := fmt.Sscan(strings.TrimSpace(string(b[:n])), &p.RootHash, &p.UKI, &p.Root, &p.UKIBytes, &p.Done); err != nil {
		t.Fatal(err)
	}
	return p
}
