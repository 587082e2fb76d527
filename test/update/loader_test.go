package update

import (
	"cmp"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/waysideos/wayside/image/disk"
	"github.com/waysideos/wayside/image/layout"
	"github.com/waysideos/wayside/image/uki"
	"github.com/waysideos/wayside/init/disktest"
	"github.com/waysideos/wayside/init/fat"
)

// The loader's part is written once more here, with the image builder's
// readers and not init's: what both believe must be so.

// item is a kernel image as the loader lists it.
type item struct {
	file, base string
	left, done int // left is -1 without a counter
	version    uint64
	words      map[string]string
	foreign    bool
}

var errNothing = errors.New("the loader finds nothing to start")

func list(esp *disktest.Disk) ([]item, error) {
	v, err := disk.OpenFAT(esp, esp.Size)
	if err != nil {
		return nil, err
	}
	files, err := v.List()
	if err != nil {
		return nil, err
	}
	var out []item
	for _, f := range files {
		dir, name := path.Split(f.Path)
		if !strings.EqualFold(dir, layout.ESPUKIDir+"/") || !strings.HasSuffix(name, ".efi") {
			continue
		}
		data, err := v.ReadFile(f.Path)
		if err != nil {
			return nil, err
		}
		if i, ok := readItem(name, data); ok {
			out = append(out, i)
		}
	}
	slices.SortStableFunc(out, func(a, b item) int {
		return cmp.Or(
			cmp.Compare(b2i(a.left == 0), b2i(b.left == 0)),
			-cmp.Compare(a.version, b.version),
			-cmp.Compare(a.base, b.base),
		)
	})
	return out, nil
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// readItem passes over what is no whole kernel image.
func readItem(name string, data []byte) (item, bool) {
	sections, err := uki.Sections(data)
	if err != nil || uki.Find(sections, uki.OSRel) == nil || uki.Find(sections, uki.Linux) == nil {
		return item{}, false
	}
	i := item{file: name, base: name, left: -1, words: map[string]string{}}
	stem := strings.TrimSuffix(name, ".efi")
	if at := strings.LastIndex(stem, "+"); at >= 0 {
		var left, done int
		if n, _ := fmt.Sscanf(stem[at+1:], "%d-%d", &left, &done); n >= 1 {
			i.base, i.left, i.done = stem[:at]+".efi", left, done
		}
	}
	for _, line := range strings.Fields(string(uki.Find(sections, uki.OSRel)) + " " + string(uki.Find(sections, uki.Cmdline))) {
		key, value, _ := strings.Cut(line, "=")
		i.words[key] = strings.Trim(value, `"`)
	}
	i.version, _ = strconv.ParseUint(i.words["IMAGE_VERSION"], 10, 64)
	i.foreign = i.words["ID"] != "wayside"
	return i, true
}

// lazy is a disk to firmware: what it writes reaches the platter in any order
// until it has finished.
type lazy struct{ *disktest.Disk }

func (lazy) Sync() error { return nil }

// start picks what is started and counts it. The name returned is what the
// stub is told.
func start(esp *disktest.Disk) (item, error) {
	all, err := list(esp)
	if err != nil {
		return item{}, err
	}
	if len(all) == 0 {
		return item{}, errNothing
	}
	i := all[0]
	if i.left < 0 {
		return i, nil
	}
	to := fmt.Sprintf("%s+%d-%d.efi", strings.TrimSuffix(i.base, ".efi"), max(0, i.left-1), i.done+1)
	v, err := fat.Open(lazy{esp}, esp.Size)
	if err != nil {
		return i, err
	}
	// What cannot be counted is started all the same.
	if v.Rename(layout.ESPUKIDir, i.file, to) == nil {
		i.file, i.left, i.done = to, max(0, i.left-1), i.done+1
	}
	return i, esp.Sync()
}

// startUBoot does what the boot script does (image/uboot/boot.cmd).
func startUBoot(esp *disktest.Disk) (item, error) {
	v, err := disk.OpenFAT(esp, esp.Size)
	if err != nil {
		return item{}, err
	}
	var copies [2][]byte
	for i, sector := range layout.BootRecordSectors {
		if copies[i], err = v.Reserved(sector); err != nil {
			return item{}, err
		}
	}
	r, at, _ := layout.NewestBootRecord(copies)
	order := []int{r.Good, 1 - r.Good}
	if at >= 0 && r.Trial != layout.NoTrial && r.Trial != r.Good && r.Left > 0 {
		r.Sequence, r.Left, r.Done = r.Sequence+1, r.Left-1, r.Done+1
		_, err := esp.WriteAt(r.Encode(), layout.BootRecordSectors[1-at]*layout.BootRecordSize)
		if err = errors.Join(err, esp.Sync()); err != nil {
			return item{}, err
		}
		order = []int{r.Trial}
	}
	for _, i := range order {
		data, err := v.ReadFile(path.Join(layout.ESPUKIDir, layout.ESPSlots[i]))
		if err != nil {
			continue
		}
		if it, ok := readItem(layout.ESPSlots[i], data); ok {
			return it, nil
		}
	}
	return item{}, errReset
}
