package filesink

import (
	"context"
	"errors"
	"io/fs"
	"testing"

	"github.com/waysideos/wayside/services/connect"
	"github.com/waysideos/wayside/services/connect/connecttest"
	"github.com/waysideos/wayside/services/site"
	"github.com/waysideos/wayside/services/vfs"
)

// twin is a file that a cut in the middle of its rename has left under both
// names.
var twin = ending{Topic: "a", Next: 1, Part: ".wayside/out/1.part", Name: "day/a-0.jsonl", Size: int64(len(twinText))}

const twinText = "what is in the file\n"

// twins is a stick of FAT after that cut.
func twins(t *testing.T, seed uint64) *vfs.Crashable {
	t.Helper()
	disk := vfs.NewCrashableFAT(seed)
	err := errors.Join(disk.MkdirAll(".wayside/out"), disk.MkdirAll("day"), vfs.WriteWhole(disk, twin.Part, []byte(twinText)),
		disk.SyncAll(), disk.Rename(twin.Part, twin.Name))
	if err != nil {
		t.Fatal(err)
	}
	for range 1000 {
		cut := disk.CrashClone()
		_, part := cut.Open(twin.Part)
		_, name := cut.Open(twin.Name)
		if part == nil && name == nil {
			return cut
		}
	}
	t.Fatal("no cut leaves twins")
	return nil
}

// aWriter is one that recovers a disk.
func aWriter(t *testing.T) *writer {
	t.Helper()
	boxes := make(chan *connect.Box, 1)
	connecttest.Start(t, connecttest.NewBroker(t).Addr, nil, "", connect.Instance{
		Connector: boxOf(boxes), Name: "out", Protocol: "file_sink", Records: site.DefaultRecords("out"),
	})
	return &writer{Connector: &Connector{cfg: site.FileSink{Name: "out"}}, box: <-boxes}
}

// pending begins with a disk, and the position that says of the file that it
// gets its name.
func (w *writer) pending(t *testing.T, disk *vfs.Crashable) {
	t.Helper()
	w.fs, w.position = disk, &position{Version: 1, Pending: new(twin)}
	if err := w.commit(t.Context()); err != nil {
		t.Fatal(err)
	}
}

type boxOf chan *connect.Box

func (b boxOf) Run(ctx context.Context, box *connect.Box) error {
	b <- box
	<-ctx.Done()
	return nil
}

// settled recovers a disk by the committed position and reads the file, after
// all was removed that is left of its growing: none is one that is written
// again.
func (w *writer) settled(t *testing.T, disk *vfs.Crashable) (text string) {
	t.Helper()
	at, err := w.box.Position(t.Context())
	if err == nil {
		w.position, err = parsePosition(at)
	}
	if err != nil {
		t.Fatal(err)
	}
	w.fs = disk
	there, err := w.settle(t.Context(), w.position.Pending)
	if err := errors.Join(err, w.clear()); err != nil {
		t.Fatal(err)
	}
	if text, err = tryRead(disk, twin.Name); !there && errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	if err != nil || !there || text != twinText {
		t.Fatalf("there is %v: got %q, %v, want the file", there, text, err)
	}
	return text
}

// The two names of one content become a file of its own, and what frees the
// blocks of the twins does it no harm.
func TestTwins(t *testing.T) {
	w, disk := aWriter(t), twins(t, 1)
	w.pending(t, disk)
	if w.settled(t, disk) == "" {
		t.Fatal("the file is gone")
	}
	if err := disk.Remove(twinFolder + "/out.1"); err != nil {
		t.Fatal(err)
	}
	if _, err := tryRead(disk, twinFolder+"/out.2"); err == nil {
		t.Error("what was set apart are no twins: the test is none")
	}
	if got := read(t, disk, twin.Name); got != twinText {
		t.Errorf("got %q, want the file", got)
	}
}

// A file of the same size that is another's is no twin: nothing is set apart.
func TestNoTwin(t *testing.T) {
	disk := vfs.NewCrashable(1)
	other := make([]byte, len(twinText))
	if err := errors.Join(disk.MkdirAll(".wayside/out"), disk.MkdirAll("day"), vfs.WriteWhole(disk, twin.Part, []byte(twinText)), vfs.WriteWhole(disk, twin.Name, other)); err != nil {
		t.Fatal(err)
	}
	w := aWriter(t)
	w.pending(t, disk)
	if w.settled(t, disk) == "" {
		t.Error("the file is gone")
	}
	if _, err := disk.ReadDir(twinFolder); err == nil {
		t.Error("something was set apart")
	}
}

// The power goes again while twins are dealt with, at each operation in turn.
func TestPowerCutsAmongTwins(t *testing.T) {
	w := aWriter(t)
	whole, again := 0, 0
	for seed := range uint64(8) {
		for step := 1; ; step++ {
			disk := twins(t, seed)
			w.pending(t, disk)
			ops := 0
			disk.SetHook(func(op vfs.Op, _ string) error {
				if op == vfs.OpOpen || op == vfs.OpRead {
					return nil
				}
				if ops++; ops >= step {
					return vfs.ErrCrashed
				}
				return nil
			})
			_, err := w.settle(t.Context(), w.position.Pending)
			disk.SetHook(nil)
			if err == nil {
				break
			}
			if w.settled(t, disk.Crash()) == "" {
				again++
			} else {
				whole++
			}
		}
	}
	t.Logf("after %d cuts the file was there, after %d it is written again", whole, again)
	if whole < again {
		t.Errorf("the file was there after %d cuts and not after %d, want that it mostly is", whole, again)
	}
}
