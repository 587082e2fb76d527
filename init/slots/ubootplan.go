package slots

import (
	"strings"

	"github.com/waysideos/wayside/image/layout"
)

// slotEntries makes the boot partition's kernel images what U-Boot makes of
// them by its record, in the order in which it would start them.
func slotEntries(found [2]*Entry, r layout.BootRecord) []Entry {
	var order []int
	trial := r.Trial != layout.NoTrial && r.Trial != r.Good
	if trial {
		if e := found[r.Trial]; e != nil {
			e.Counted, e.Left, e.Done = true, int(r.Left), int(r.Done)
		}
	}
	if trial && r.Left > 0 {
		order = append(order, r.Trial)
	}
	order = append(order, r.Good)
	if !trial || r.Left == 0 {
		order = append(order, 1-r.Good)
	}
	var whole, broken []Entry
	for _, i := range order {
		switch e := found[i]; {
		case e == nil:
		case e.Broken != "":
			broken = append(broken, *e)
		default:
			whole = append(whole, *e)
		}
	}
	return append(whole, broken...)
}

// indexOf is a kernel image's index of layout.ESPSlots, -1 if it is none.
func indexOf(file string) int {
	for i, name := range layout.ESPSlots {
		if strings.EqualFold(file, name) {
			return i
		}
	}
	return -1
}

// planRecord is the record that tells U-Boot of a verdict on the running
// version.
func planRecord(b *Boot, r layout.BootRecord, v Verdict) (layout.BootRecord, error) {
	if b.Running == nil {
		return r, ErrNotKnown
	}
	run := indexOf(b.Running.File)
	switch v {
	case Good, Keep:
		return layout.BootRecord{Sequence: r.Sequence, Good: run, Trial: layout.NoTrial}, nil
	case Again:
		if b.Running.Counted && r.Done > 0 {
			r.Left, r.Done = r.Left+1, r.Done-1
		}
		return r, nil
	case Bad:
		for _, e := range b.Entries {
			if e.Broken == "" && e.File != b.Running.File {
				return layout.BootRecord{Sequence: r.Sequence, Good: 1 - run, Trial: run, Done: max(r.Done, 1)}, nil
			}
		}
		return r, ErrNoOther
	}
	return r, refuse("verdict %q", v)
}
