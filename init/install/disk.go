// Package install copies the system that was started from a stick to a disk
// that is built in: the stick's own boot partition and root, by the blocks in
// use, such that the disk starts only when all of it was read back.
package install

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/waysideos/wayside/image/layout"
	"github.com/waysideos/wayside/services/site"
)

// Disk is one that the machine has.
type Disk struct {
	Name  string // of the kernel, "nvme0n1"
	Model string
	Size  int64 // bytes
	// External is one that comes and goes: a stick, or a disk on USB. Only a
	// person or its name chooses it.
	External bool
	// Box says that there is a Wayside box on it.
	Box bool
}

// Node is the disk's device node.
func (d Disk) Node() string { return "/dev/" + d.Name }

func (d Disk) String() string {
	s := fmt.Sprintf("%s, %d GiB", d.Node(), d.Size>>30)
	if d.Model != "" {
		s += ", " + d.Model
	}
	if d.Box {
		s += ", HOLDS A WAYSIDE BOX"
	}
	return s
}

// virtual are block devices that nothing is installed to, by prefix. The boot
// areas of an eMMC are disks to the kernel as well, and so is each path to an
// NVMe disk ("nvme0c0n1"), which it hides.
var virtual = []string{"loop", "ram", "zram", "dm-", "md", "sr", "fd", "nbd"}

// List finds the disks below a sysfs that a system can go to, the booted one
// left out. Those that are too small, read-only or of large sectors are no
// choice either.
func List(sys, booted string) ([]Disk, error) {
	entries, err := os.ReadDir(filepath.Join(sys, "block"))
	if err != nil {
		return nil, fmt.Errorf("list disks: %w", err)
	}
	var all []Disk
	for _, e := range entries {
		name := e.Name()
		word := func(file string) string {
			b, _ := os.ReadFile(filepath.Join(sys, "block", name, file))
			return strings.Join(strings.Fields(string(b)), " ")
		}
		sectors, _ := strconv.ParseInt(word("size"), 10, 64)
		d := Disk{Name: name, Model: word("device/model"), Size: sectors * 512}
		if d.Model == "" {
			d.Model = word("device/name") // of an eMMC
		}
		link, _ := filepath.EvalSymlinks(filepath.Join(sys, "block", name))
		d.External = word("removable") == "1" || strings.Contains(link, "/usb")
		skip := name == booted || word("ro") == "1" || word("hidden") == "1" || word("queue/logical_block_size") != "512" ||
			strings.Contains(name, "boot") || strings.Contains(name, "rpmb") ||
			slices.ContainsFunc(virtual, func(p string) bool { return strings.HasPrefix(name, p) })
		if !skip && d.Size >= layout.MinDisk {
			all = append(all, d)
		}
	}
	return all, nil
}

// ErrNone says that there is no disk to install to.
var ErrNone = errors.New("this machine has no disk to install to")

// Choose picks the disk that the install file names. Without a name it gives
// nil, and a person has to.
func Choose(all []Disk, in *site.Install) (*Disk, error) {
	fits := Fitting(all, in)
	if len(fits) == 0 {
		return nil, fmt.Errorf("%w: of %d disks of %d GiB and more none is as the install file wants it", ErrNone, len(all), layout.MinDisk>>30)
	}
	switch in.Disk {
	case "":
		return nil, nil
	case site.DiskOnly:
		if len(fits) > 1 {
			return nil, fmt.Errorf("the install file wants the only disk, and there are %d: %v", len(fits), fits)
		}
	case site.DiskSmallest:
		slices.SortStableFunc(fits, func(a, b Disk) int { return int(min(1, max(-1, a.Size-b.Size))) })
	}
	return &fits[0], nil
}

// Fitting are the disks that the install file allows.
func Fitting(all []Disk, in *site.Install) []Disk {
	var fits []Disk
	for _, d := range all {
		model, _ := path.Match(in.Model, d.Model) // a good pattern: ParseInstall
		switch {
		case in.Model != "" && !model,
			d.Size < int64(in.MinGiB)<<30,
			in.MaxGiB > 0 && d.Size > int64(in.MaxGiB)<<30,
			d.External && (in.Disk == site.DiskOnly || in.Disk == site.DiskSmallest),
			strings.HasPrefix(in.Disk, "/dev/") && in.Disk != d.Node():
			continue
		}
		fits = append(fits, d)
	}
	return fits
}

// Granted says whether the install file itself lets a disk be overwritten.
func Granted(d Disk, in *site.Install) bool {
	return in.Wipe == site.WipeAlways || in.Wipe == site.WipeYes && !d.Box
}
