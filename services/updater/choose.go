package updater

import (
	"fmt"
	"slices"

	"github.com/waysideos/wayside/image/release"
	"github.com/waysideos/wayside/services/manifest"
	"github.com/waysideos/wayside/services/updater/stage"
)

// choice is what a catalog means for this box.
type choice struct {
	next    *release.Target // nil: nothing to do
	refused []manifest.Fact // newer ones that may not be installed, with the reason
}

// choose picks the newest release that this box may install, refusal being why
// it may not. releases are sorted, newest counter first.
func choose(releases []release.Target, running manifest.Slot, board, arch string, refusal func(*release.Target) string) choice {
	var c choice
	for i := range releases {
		r := &releases[i]
		if r.Board != board || r.Arch != arch || r.Kind != release.KindRelease {
			continue // for other boxes
		}
		if r.Version == running.Version || r.Counter <= running.Counter && !r.Downgrade {
			continue
		}
		if why := refusal(r); why != "" {
			c.refused = append(c.refused, manifest.Fact{Name: r.Version, Value: why})
			continue
		}
		if c.next == nil {
			c.next = r
		}
	}
	return c
}

// refusal is why this box may not install r, "" if it may.
func (u *Updater) refusal(r *release.Target) string {
	if why := refusal(r, u.slots); why != "" {
		return why
	}
	return u.unfit(r)
}

// refusal is what the slots have against r.
func refusal(r *release.Target, slots manifest.Slots) string {
	i := slices.IndexFunc(slots.Failed, func(o manifest.Outcome) bool { return o.Version == r.Version })
	switch room := manifest.StagedOffset(slots.Other.Size); {
	case i >= 0:
		return fmt.Sprintf("it failed on this box (%s: %s); retry makes it forgotten", slots.Failed[i].Check, slots.Failed[i].Reason)
	case r.MinCounter > slots.Running.Counter:
		return fmt.Sprintf("it installs only from counter %d on, and this box runs %d; install a release between first", r.MinCounter, slots.Running.Counter)
	case r.Counter < slots.Floor && !r.Downgrade:
		return fmt.Sprintf("its counter %d is below %d, which this box has committed", r.Counter, slots.Floor)
	case slots.Other.Size > 0 && r.RootBytes > room:
		return fmt.Sprintf("%v: its root takes %d bytes, and the slot of this box has %d for it", stage.ErrRoom, r.RootBytes, max(0, room))
	}
	return ""
}
