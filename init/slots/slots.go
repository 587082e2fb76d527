// Package slots answers which slot was booted, in the firmware's words rather
// than our own notes, puts another version beside it for the boot loader to
// try, and tells the loader how that went.
package slots

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/waysideos/wayside/image/layout"
	"github.com/waysideos/wayside/init/gpt"
	"github.com/waysideos/wayside/init/verity"
)

// Store is a boot back end: what the boot loader of a board has to be told.
type Store interface {
	// Current finds the slot that runs. It waits for its disk as long as ctx
	// allows.
	Current(ctx context.Context) (*Slot, error)
	Loader
}

// Loader is the boot loader as far as it can be told what to start.
type Loader interface {
	// Look reads what the loader could start, and which of it runs. It writes
	// nothing.
	Look() (*Boot, error)
	// Try has the loader start a version next, for some boots at most, until
	// Settle calls it good. Whenever the power goes meanwhile, the next boot
	// is of the running version or of the new one.
	Try(c Candidate) error
	// Settle tells the loader how the running version is. The last write that
	// it makes is the one that counts.
	Settle(v Verdict) error
}

// Slot is a booted slot.
type Slot struct {
	Role  layout.Role // layout.RootA or layout.RootB
	Disk  Disk
	Index int // GPT entry
	Tree  *verity.Tree
}

// Disk is a whole disk with a readable table.
type Disk struct {
	Name  string // kernel name: "vda"
	Table *gpt.Table
}

var (
	errNoDisk = errors.New("no disk with our partitions is there")
	errTwo    = errors.New("more than one disk could be the booted one; detach the others")
)

// chooseDisk picks the booted disk: the one with the partition that the
// loader says it came from, else the only one that carries our partitions.
func chooseDisk(disks []Disk, goarch, partUUID string) (Disk, error) {
	parts, err := layout.Partitions(goarch)
	if err != nil {
		return Disk{}, err
	}
	var fit []Disk
	var seen []string
	for _, d := range disks {
		seen = append(seen, d.Name)
		if partUUID != "" && hasPartUUID(d.Table, partUUID) || partUUID == "" && isOurs(d.Table, parts) {
			fit = append(fit, d)
		}
	}
	switch {
	case len(fit) == 1:
		return fit[0], nil
	case len(fit) == 0 && partUUID != "":
		return Disk{}, fmt.Errorf("%w: the loader came from partition %s, seen: %s", errNoDisk, partUUID, list(seen))
	case len(fit) == 0:
		return Disk{}, fmt.Errorf("%w: seen: %s", errNoDisk, list(seen))
	}
	return Disk{}, fmt.Errorf("%w: %s and %s", errTwo, fit[0].Name, fit[1].Name)
}

func list(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

func hasPartUUID(t *gpt.Table, partUUID string) bool {
	for _, p := range t.Partitions {
		if strings.EqualFold(p.GUID.String(), partUUID) {
			return true
		}
	}
	return false
}

// isOurs says whether every partition of a shipped image is there.
func isOurs(t *gpt.Table, parts []layout.Partition) bool {
	for _, part := range parts {
		typ, err := gpt.ParseGUID(part.Type)
		if err != nil {
			return false
		}
		if _, found := t.Find(typ, part.Name); part.Shipped && !found {
			return false
		}
	}
	return true
}

// chooseSlot finds the slot on d whose hash tree is the pinned one. Both may
// be, with the same release in both: then they are equal, and it is the first.
func chooseSlot(d Disk, goarch string, pin verity.Pin, disk io.ReaderAt) (*Slot, error) {
	parts, err := layout.Partitions(goarch)
	if err != nil {
		return nil, err
	}
	var why []string
	for _, part := range parts {
		if part.Role != layout.RootA && part.Role != layout.RootB {
			continue
		}
		typ, err := gpt.ParseGUID(part.Type)
		if err != nil {
			return nil, err
		}
		p, found := d.Table.Find(typ, part.Name)
		if !found {
			why = append(why, string(part.Role)+": not there")
			continue
		}
		tree, err := verity.Check(io.NewSectionReader(disk, p.Offset(), p.Size()), pin)
		if err == nil {
			return &Slot{Role: part.Role, Disk: d, Index: p.Index, Tree: tree}, nil
		}
		why = append(why, fmt.Sprintf("%s: %v", part.Role, err))
	}
	return nil, fmt.Errorf("%w on %s (%s)", ErrNoSlot, d.Name, strings.Join(why, "; "))
}

// ErrNoSlot says that no slot of the booted disk holds the root that the
// command line pins.
var ErrNoSlot = errors.New("no slot holds the pinned root")
