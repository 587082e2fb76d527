package stage

import (
	"bytes"
	"errors"
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

// published is a release as a repository has it.
func published(t *testing.T, r updatertest.Release) (updatertest.Files, Delta) {
	t.Helper()
	repo := updatertest.NewRepo(t, time.Now())
	r.AddTo(repo)
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
	}
	return src, d
}

func deltaOf(t *testing.T, r updatertest.Release) Delta {
	t.Helper()
	_, d := published(t, r)
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
	src, d := published(t, rel)
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

// TestDeltaFromBadServers: one without ranges is read through, one that sends
// something else is an error that another source may mend.
func TestDeltaFromBadServers(t *testing.T) {
	rel := updatertest.NewRelease(t, "2.0", 2, 200, 40_000)
	src, d := published(t, rel)
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
