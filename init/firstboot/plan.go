// Package firstboot gives the disk that was booted the partitions and file
// systems the image does not ship. What is done follows from what the disk
// holds at each boot, so that a power cut at any instant is made good by the
// next boot.
package firstboot

import (
	"fmt"
	"io"
	"strings"

	"github.com/waysideos/wayside/image/layout"
	"github.com/waysideos/wayside/init/gpt"
)

const (
	alignment = uint64(layout.Alignment / gpt.Sector)
	// tableTail is what the backup table takes at the end of the disk, in
	// sectors.
	tableTail = 33
	// minData is the smallest data partition worth having, in bytes; on a
	// disk below layout.MinDisk the second slot gives way to it. It holds a
	// backup superblock (see backupSuper): without one, Inspect could not tell
	// a damaged file system from a partition that never had one.
	minData = 160 * layout.MiB
)

// Plan is what a disk needs.
type Plan struct {
	Table   *gpt.Table // the table as it should be; shares nothing with the old one
	Changes []string   // in words for the log; empty if the table is as it should be
	// Problems names what the disk has no room for, in words for the
	// technician.
	Problems []string
}

// Make plans the table of a disk of the given size in sectors. Partitions
// that exist stay where they are, only data grows with the disk. When the
// disk still is as it was flashed, every GUID is replaced by a random one:
// two boxes with the same image must not have the same disks.
func Make(now *gpt.Table, sectors uint64, parts []layout.Partition, random io.Reader) (*Plan, error) {
	p := &Plan{Table: now.Clone()}
	flashed := true // nothing beyond what the image ships
	var missing []layout.Partition
	for _, part := range parts {
		typ, err := gpt.ParseGUID(part.Type)
		if err != nil {
			return nil, err
		}
		_, found := now.Find(typ, part.Name)
		switch {
		case found && !part.Shipped:
			flashed = false
		case !found && part.Shipped && part.Role != layout.RootB:
			return nil, fmt.Errorf("plan partitions: the booted disk has no %s", part.Name)
		case !found:
			missing = append(missing, part)
		}
	}
	usable := (sectors - tableTail) / alignment * alignment // first sector not for data
	if err := p.add(missing, usable, flashed, random); err != nil {
		return nil, err
	}
	p.growData(parts, usable)
	if flashed && len(p.Changes) > 0 {
		if err := p.freshGUIDs(random); err != nil {
			return nil, err
		}
	}
	if now.Moved {
		p.Changes = append(p.Changes, "finished writing the partition table")
	}
	if now.Degraded {
		p.Changes = append(p.Changes, "repaired the partition table at the start of the disk")
	} else if now.Alternate != sectors-1 {
		p.Changes = append(p.Changes, "moved the backup partition table to the end of the disk")
	}
	return p, nil
}

// add appends the missing partitions behind the last one, each where it fits.
func (p *Plan) add(missing []layout.Partition, usable uint64, flashed bool, random io.Reader) error {
	next := p.end()
	for _, part := range p.affordable(missing, usable-min(usable, next), flashed) {
		size := uint64(part.Size) / gpt.Sector
		if part.Size == 0 {
			size = usable - next
		}
		typ, err := gpt.ParseGUID(part.Type)
		if err != nil {
			return err
		}
		guid, err := gpt.NewGUID(random)
		if err != nil {
			return err
		}
		entry := gpt.Partition{Index: part.Index, Type: typ, GUID: guid, Start: next, End: next + size - 1, Name: part.Name}
		if part.ReadOnly {
			entry.Attributes = layout.AttrReadOnly
		}
		if p.taken(part.Index) {
			return fmt.Errorf("plan partitions: entry %d, which %s needs, is another partition's", part.Index, part.Name)
		}
		p.Table.Partitions = append(p.Table.Partitions, entry)
		p.Changes = append(p.Changes, fmt.Sprintf("added %s, %d MiB", part.Role, entry.Size()/layout.MiB))
		next += size
	}
	return nil
}

// affordable picks what fits in free sectors, and reports what does not.
// State comes first, then some data, then the second slot: a box that cannot
// be updated still does its work, one that cannot keep anything does not.
func (p *Plan) affordable(missing []layout.Partition, free uint64, flashed bool) []layout.Partition {
	byRole := map[layout.Role]layout.Partition{}
	for _, part := range missing {
		byRole[part.Role] = part
	}
	want := map[layout.Role]bool{}
	left := int64(free) * gpt.Sector
	take := func(r layout.Role, need int64) {
		if part, ok := byRole[r]; ok && need <= left {
			want[r] = true
			left -= max(part.Size, need)
		}
	}
	take(layout.State, byRole[layout.State].Size)
	if _, absent := byRole[layout.State]; !absent || want[layout.State] {
		take(layout.Data, minData)
	}
	if flashed { // later the room behind the last partition belongs to data
		take(layout.RootB, byRole[layout.RootB].Size)
	}
	var out []layout.Partition
	var refused []string
	for _, part := range missing {
		if want[part.Role] {
			out = append(out, part)
		} else {
			refused = append(refused, string(part.Role))
		}
	}
	if len(refused) > 0 {
		p.Problems = append(p.Problems, fmt.Sprintf("the disk has no room for %s: it is smaller than %d MiB",
			strings.Join(refused, ", "), layout.MinDisk/layout.MiB))
	}
	return out
}

// growData lets data reach the end of a disk that has become larger.
func (p *Plan) growData(parts []layout.Partition, usable uint64) {
	for i := range p.Table.Partitions {
		e := &p.Table.Partitions[i]
		if e.Name != nameOf(parts, layout.Data) || e.End+1 != p.tail() || e.End+1 >= usable {
			continue
		}
		e.End = usable - 1
		p.Changes = append(p.Changes, fmt.Sprintf("grew data to %d MiB", e.Size()/layout.MiB))
	}
}

func (p *Plan) freshGUIDs(random io.Reader) error {
	all := []*gpt.GUID{&p.Table.GUID}
	for i := range p.Table.Partitions {
		all = append(all, &p.Table.Partitions[i].GUID)
	}
	for _, g := range all {
		fresh, err := gpt.NewGUID(random)
		if err != nil {
			return err
		}
		*g = fresh
	}
	p.Changes = append(p.Changes, "gave the disk and its partitions GUIDs of their own")
	return nil
}

// tail is the first sector behind the last partition, end the same, aligned.
func (p *Plan) tail() uint64 {
	var tail uint64
	for _, e := range p.Table.Partitions {
		tail = max(tail, e.End+1)
	}
	return tail
}

func (p *Plan) end() uint64 {
	return (max(p.tail(), alignment) + alignment - 1) / alignment * alignment
}

func (p *Plan) taken(index int) bool {
	for _, e := range p.Table.Partitions {
		if e.Index == index {
			return true
		}
	}
	return false
}

func nameOf(parts []layout.Partition, role layout.Role) string {
	for _, part := range parts {
		if part.Role == role {
			return part.Name
		}
	}
	return ""
}
