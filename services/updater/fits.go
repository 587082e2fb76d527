package updater

import (
	"fmt"
	"strings"

	"github.com/waysideos/wayside/image/release"
	"github.com/waysideos/wayside/services/updater/stage"
)

// fits is nil when the staged release has a driver for every device that the
// box uses. It is looked at before the switch, since without its network a box
// in the field can only go back. What cannot be read is left to the trial.
func (u *Updater) fits(t release.Target) error {
	if u.cfg.Lost == nil {
		return nil
	}
	slot, err := stage.ReadSlot(u.cfg.Dev, node(u.slots.Other))
	if err != nil {
		return err
	}
	defer slot.Close()
	lost, err := u.cfg.Lost(slot)
	if err != nil {
		u.log.Warn("whether a release has all drivers of this box is not known", "version", t.Version, "error", err)
		return nil
	}
	if len(lost) == 0 {
		return nil
	}
	var names []string
	for _, d := range lost {
		names = append(names, d.String())
	}
	return fmt.Errorf("release %s may not be installed: it has no driver for what this box uses: %s", t.Version, strings.Join(names, ", "))
}
