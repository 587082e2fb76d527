package stage

import (
	"bytes"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/waysideos/wayside/image/release"
	"github.com/waysideos/wayside/services/updater/source"
	"github.com/waysideos/wayside/services/updater/trust"
	"github.com/waysideos/wayside/services/updater/updatertest"
)

// published is a release as a repository has it, with a patch from another.
func published(t *testing.T, r updatertest.Release, from *updatertest.Release) (updatertest.Files, Delta) {
	t.Helper()
	repo := updatertest.NewRepo(t, time.Now())
	r.AddTo(repo)
	if from != nil {
		r.AddPatch(repo, *from)
	}
	src := repo.Source()
	d := Delta{Source: src}
	for name, f := range repo.Targets {
		file := trust.File{Name: updatertest.Path(name, f.Hashes["sha256"]), Length: f.Length, SHA256: [32]byte(f.Hashes["sha256"])}
		switch name {
		case r.Target.Path(release.TargetIndex):
			d.Index = file
		case r.Target.Path(release.TargetPack):
			d.Pack = file.Name
		}
		if from != nil && name == r.Target.Path(release.TargetPatch(from.Target.RootHash)) {
			d.Patch = &file
		}
	}
	return src, d
}

func deltaOf(t *testing.T, r updatertest.Release) Delta {
	t.Helper()
	_, d := published(t, r, nil)
	return d
}

// TestDelta: one changed block is all that is fetched when the running slot
// holds the rest.
func TestDelta(t *testing.T) {
	old := updatertest.NewRelease(t, "1.0", 1, 200, 40_000)
	rel := updatertest.Change(t, old, "2.0", 2, 77)
	running := newDisk(t, 7)
	if err := newJob(t, running, old, files(old)).Run(t.Context(), Progress{}); err != nil {
		t.Fatal(err)
	}
	src, d := published(t, rel, nil)
	count := &counting{Files: src}
	d.Source, d.Have = count, newJob(t, running, old, nil).Slot.Held()
	disk := newDisk(t, 1)
	j := newJob(t, disk, rel, nil)
	j.Content = d
	if err := j.Run(t.Context(), Progress{}); err != nil {
		t.Fatal(err)
	}
	if err := whole(t, disk.Crash(), rel); err != nil {
		t.Fatal(err)
	}
	if count.got > len(rel.Content)/4 {
		t.Errorf("fetched %d bytes of %d for one changed block", count.got, len(rel.Content))
	}
}

// TestPatch: a number in every 200 bytes takes a fraction of the release with
// a patch, and the release is had without one that is not what was signed.
func TestPatch(t *testing.T) {
	old := updatertest.NewProgram(t, "1.0", 1, 200, 40_000)
	rel := updatertest.Move(t, old, "2.0", 2)
	running := newDisk(t, 7)
	if err := newJob(t, running, old, files(old)).Run(t.Context(), Progress{}); err != nil {
		t.Fatal(err)
	}
	src, d := published(t, rel, &old)
	d.Have = newJob(t, running, old, nil).Slot.Held()
	for _, tt := range []struct {
		name        string
		spoil       func(b []byte) []byte
		least, most int
	}{
		{"good", bytes.Clone, 0, len(rel.Content) / 8},
		{"a flipped bit", func(b []byte) []byte { return flipped(b, len(b)/2) }, len(rel.Content) / 4, len(rel.Content)},
		{"cut off", func(b []byte) []byte { return b[:len(b)/2] }, len(rel.Content) / 4, len(rel.Content)},
	} {
		served := updatertest.Files(maps.Clone(src))
		served[d.Patch.Name] = tt.spoil(src[d.Patch.Name])
		count := &counting{Files: served}
		d.Source = count
		disk := newDisk(t, 1)
		j := newJob(t, disk, rel, nil)
		j.Content = d
		if err := j.Run(t.Context(), Progress{}); err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		if err := whole(t, disk.Crash(), rel); err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		if count.got < tt.least || count.got > tt.most {
			t.Errorf("%s: fetched %d bytes of %d, want %d to %d", tt.name, count.got, len(rel.Content), tt.least, tt.most)
		}
	}
}

// TestDeltaFromBadServers: one without ranges is read through, one that sends
// something else is an error that another source may mend.
func TestDeltaFromBadServers(t *testing.T) {
	rel := updatertest.NewRelease(t, "2.0", 2, 200, 40_000)
	src, d := published(t, rel, nil)
	pack := src[d.Pack]
	serve := func(pack []byte, ranges bool) source.Source {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			data := src[r.URL.Path[1:]]
			if r.URL.Path[1:] == d.Pack {
				data = pack
			}
			if ranges {
				http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
				return
			}
			_, _ = w.Write(data)
		}))
		t.Cleanup(s.Close)
		return source.NewHTTP(s.URL, source.Options{})
	}
	garbage := slices.Repeat([]byte("garbage!"), len(pack)/8+1)[:len(pack)]
	for _, tt := range []struct {
		name string
		src  source.Source
		good bool
	}{
		{"no ranges", serve(pack, false), true},
		{"garbage", serve(garbage, true), false},
		{"garbage without ranges", serve(garbage, false), false},
		{"too short", serve(pack[:len(pack)/2], true), false},
	} {
		disk := newDisk(t, 1)
		j := newJob(t, disk, rel, nil)
		bad := d
		bad.Source = tt.src
		j.Content = bad
		err := j.Run(t.Context(), Progress{})
		if tt.good && err != nil || !tt.good && !errors.Is(err, ErrContent) && source.KindOf(err) == "" {
			t.Errorf("%s: got %v", tt.name, err)
		}
		j.Content = d
		if err := j.Run(t.Context(), Progress{}); err != nil {
			t.Errorf("%s, then a good source: %v", tt.name, err)
		}
	}
}
