package firstboot

import (
	"bytes"
	"crypto/rand"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waysideos/wayside/image/layout"
	"github.com/waysideos/wayside/init/gpt"
)

// flashed is a disk of the given size onto which an image was written: the
// backup table lies where the image ended.
func flashed(t testing.TB, size int64) (*crashDisk, []layout.Partition) {
	t.Helper()
	parts, err := layout.Partitions("amd64")
	if err != nil {
		t.Fatal(err)
	}
	table := &gpt.Table{GUID: gpt.GUID{1}}
	next := alignment
	image := newCrashDisk(uint64(size)/gpt.Sector, map[uint64]sector{})
	for _, p := range parts {
		if !p.Shipped {
			continue
		}
		typ, err := gpt.ParseGUID(p.Type)
		if err != nil {
			t.Fatal(err)
		}
		n := uint64(p.Size) / gpt.Sector
		e := gpt.Partition{Index: p.Index, Type: typ, GUID: gpt.GUID{2, byte(p.Index)}, Start: next, End: next + n - 1, Name: p.Name}
		table.Partitions = append(table.Partitions, e)
		next += n
		for _, at := range []uint64{e.Start, e.End} {
			if _, err := image.WriteAt(bytes.Repeat([]byte{byte(p.Index)}, gpt.Sector), int64(at)*gpt.Sector); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := gpt.Write(image, next+tableTail, table); err != nil {
		t.Fatal(err)
	}
	return newCrashDisk(image.sectors, image.now), parts
}

func apply(t testing.TB, d *crashDisk, parts []layout.Partition) *Plan {
	t.Helper()
	plan, err := Apply(d, d.sectors, parts, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

type extent struct {
	Name string
	MiB  int64
}

func extents(table *gpt.Table) []extent {
	var out []extent
	for _, p := range table.Partitions {
		out = append(out, extent{p.Name, p.Size() / layout.MiB})
	}
	return out
}

func TestMakeBySize(t *testing.T) {
	shipped := []extent{{"wayside-esp", 256}, {"wayside-root-a", 768}}
	for _, tc := range []struct {
		name    string
		mib     int64
		want    []extent
		problem string
	}{
		{"roomy", 8192, []extent{{"wayside-root-b", 768}, {"wayside-state", 256}, {"wayside-data", 6142}}, ""},
		{"smallest", layout.MinDisk / layout.MiB, []extent{{"wayside-root-b", 768}, {"wayside-state", 256}, {"wayside-data", 512}}, ""},
		{"just a second slot", 2210, []extent{{"wayside-root-b", 768}, {"wayside-state", 256}, {"wayside-data", 160}}, ""},
		{"just no second slot", 2209, []extent{{"wayside-state", 256}, {"wayside-data", 927}}, "no room for root-b"},
		{"just some data", 1442, []extent{{"wayside-state", 256}, {"wayside-data", 160}}, "no room for root-b"},
		{"just no data", 1441, []extent{{"wayside-state", 256}}, "no room for root-b, data"},
		{"no second slot", 1800, []extent{{"wayside-state", 256}, {"wayside-data", 518}}, "no room for root-b"},
		{"state only", 1310, []extent{{"wayside-state", 256}}, "no room for root-b, data"},
		{"nothing", 1100, nil, "no room for root-b, state, data"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d, parts := flashed(t, tc.mib*layout.MiB)
			plan := apply(t, d, parts)
			if diff := cmp.Diff(append(shipped, tc.want...), extents(plan.Table)); diff != "" {
				t.Errorf("partitions (-want +got):\n%s", diff)
			}
			if got := strings.Join(plan.Problems, "\n"); !strings.Contains(got, tc.problem) || (got == "") != (tc.problem == "") {
				t.Errorf("got problems %q, want %q", got, tc.problem)
			}
			d.log = nil
			if again := apply(t, d, parts); len(again.Changes) > 0 || len(d.log) > 0 {
				t.Errorf("a second boot wrote %d sectors: %q, want none", len(d.log), again.Changes)
			}
		})
	}
}

func TestTwoBoxesDiffer(t *testing.T) {
	seen := map[gpt.GUID]string{}
	for box := range 2 {
		d, parts := flashed(t, 8*layout.GiB)
		was, err := gpt.Read(d, d.sectors)
		if err != nil {
			t.Fatal(err)
		}
		table := apply(t, d, parts).Table
		all := map[string]gpt.GUID{"disk": table.GUID}
		for _, p := range table.Partitions {
			all[p.Name] = p.GUID
		}
		if all["disk"] == was.GUID || all["wayside-esp"] == was.Partitions[0].GUID {
			t.Errorf("box %d keeps a GUID of the image", box)
		}
		for name, g := range all {
			if other, twice := seen[g]; twice {
				t.Errorf("box %d: %s has the GUID of %s", box, name, other)
			}
			seen[g] = name
		}
	}
}

func TestDataGrowsWithTheDisk(t *testing.T) {
	d, parts := flashed(t, 4*layout.GiB)
	before := apply(t, d, parts).Table
	d.sectors *= 2
	after := apply(t, d, parts)
	got, want := after.Table.Partitions[4], before.Partitions[4]
	if want.End = d.sectors/alignment*alignment - alignment - 1; got != want {
		t.Errorf("got data %+v, want %+v", got, want)
	}
	if after.Table.GUID != before.GUID {
		t.Error("growing changed the disk's GUID")
	}
}

// Writing an image over a disk that was in use takes the slots and the table;
// state and data come back where they were, with what is on them.
func TestReflashKeepsStateAndData(t *testing.T) {
	for _, mib := range []int64{2210, 8192} {
		d, parts := flashed(t, mib*layout.MiB)
		before := extentsOf(apply(t, d, parts).Table, "wayside-state", "wayside-data")
		for _, p := range before {
			if _, err := d.WriteAt([]byte(p.Name), p.Offset()); err != nil {
				t.Fatal(err)
			}
		}
		image, _ := flashed(t, mib*layout.MiB)
		for at := range d.now { // the image is written whole, zeros too
			if at < 1026*uint64(layout.MiB)/gpt.Sector {
				delete(d.now, at)
			}
		}
		for at, s := range image.now {
			d.now[at] = s
		}
		after := extentsOf(apply(t, d, parts).Table, "wayside-state", "wayside-data")
		for i, p := range after {
			if p.Name != before[i].Name || p.Start != before[i].Start || p.End != before[i].End {
				t.Errorf("%d MiB: got %+v, want the place of %+v", mib, p, before[i])
			}
			if s := d.now[p.Start]; !bytes.HasPrefix(s[:], []byte(p.Name)) {
				t.Errorf("%d MiB: the content of %s is gone", mib, p.Name)
			}
		}
	}
}

func extentsOf(table *gpt.Table, names ...string) []gpt.Partition {
	var out []gpt.Partition
	for _, p := range table.Partitions {
		if slices.Contains(names, p.Name) {
			out = append(out, p)
		}
	}
	return out
}

func TestMakeRefusesForeignDisk(t *testing.T) {
	parts, err := layout.Partitions(runtime.GOARCH)
	if err != nil {
		t.Fatal(err)
	}
	if p, err := Make(&gpt.Table{}, 1<<24, parts, rand.Reader); err == nil {
		t.Errorf("got %+v for a disk without our partitions, want an error", p)
	}
}

// violations lists what a power cut must not do to a flashed disk.
func violations(d *crashDisk, flashed *crashDisk, parts []layout.Partition) []string {
	var out []string
	// What the kernel does without "gpt" on its command line: primary or nothing.
	table, err := gpt.Read(d, d.sectors)
	if err != nil {
		return []string{"no table: " + err.Error()}
	}
	if table.Degraded {
		out = append(out, "the primary copy is unreadable")
	}
	old, err := gpt.Read(flashed, flashed.sectors)
	if err != nil {
		return []string{"flashed disk: " + err.Error()}
	}
	for _, p := range old.Partitions {
		now, found := table.Find(p.Type, p.Name)
		if !found || now.Start != p.Start || now.End != p.End {
			out = append(out, p.Name+" is lost or moved")
		}
		for _, at := range []uint64{p.Start, p.End} {
			if d.now[at] != flashed.now[at] {
				out = append(out, "content of "+p.Name+" changed")
			}
		}
	}
	plan, err := Apply(d, d.sectors, parts, slog.New(slog.DiscardHandler))
	if err != nil {
		return append(out, "the next boot fails: "+err.Error())
	}
	if len(plan.Table.Partitions) != len(parts) {
		out = append(out, "the next boot does not finish")
	}
	if final, err := gpt.Read(d, d.sectors); err != nil || final.Degraded || final.Moved || cmp.Diff(plan.Table.Partitions, final.Partitions) != "" {
		out = append(out, "the next boot leaves another table than planned")
	}
	return out
}

func TestPowerCutWhilePartitioning(t *testing.T) {
	d, parts := flashed(t, 8*layout.GiB)
	before, _ := flashed(t, 8*layout.GiB)
	apply(t, d, parts)
	cuts := 0
	d.cuts(1, func(instant int, after *crashDisk) {
		cuts++
		for _, v := range violations(after, before, parts) {
			t.Errorf("cut at event %d: %s", instant, v)
		}
	})
	t.Logf("%d cuts over %d events", cuts, len(d.log))
}

// The same check must find fault with the plain order, backup first and then
// the primary in place.
func TestPowerCutCheckCanFail(t *testing.T) {
	d, parts := flashed(t, 8*layout.GiB)
	before, _ := flashed(t, 8*layout.GiB)
	// A partition in the spare's place makes gpt.Write use that order.
	old, err := gpt.Read(d, d.sectors)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := Make(old, d.sectors, parts, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	plan.Table.Partitions = append(plan.Table.Partitions, gpt.Partition{Index: 9, Type: gpt.GUID{7}, Start: 40, End: 50})
	if err := gpt.Write(d, d.sectors, plan.Table); err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	d.cuts(1, func(_ int, after *crashDisk) {
		for _, v := range violations(after, before, parts) {
			found[v] = true
		}
	})
	if !found["the primary copy is unreadable"] {
		t.Errorf("got %v, want an unreadable primary copy at some instant", found)
	}
}

// A disk that tears a sector leaves at least one copy readable.
func TestTornSector(t *testing.T) {
	d, parts := flashed(t, 8*layout.GiB)
	apply(t, d, parts)
	state := newCrashDisk(d.sectors, d.start)
	for i, e := range d.log {
		if e.data == nil {
			continue
		}
		torn := newCrashDisk(d.sectors, state.now)
		s := *e.data
		for b := gpt.Sector / 2; b < gpt.Sector; b++ {
			s[b] ^= 0x5a
		}
		torn.now[e.at] = s
		table, err := gpt.Read(torn, torn.sectors)
		if err != nil || len(table.Partitions) < 2 {
			t.Fatalf("event %d, sector %d torn: %v", i, e.at, err)
		}
		if plan, err := Apply(torn, torn.sectors, parts, slog.New(slog.DiscardHandler)); err != nil || len(plan.Table.Partitions) != len(parts) {
			t.Fatalf("event %d, sector %d torn: the next boot does not finish: %v", i, e.at, err)
		}
		state.now[e.at] = *e.data
	}
}
