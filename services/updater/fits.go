package updater

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/waysideos/wayside/image/release"
	"github.com/waysideos/wayside/services/updater/drivers"
	"github.com/waysideos/wayside/services/updater/stage"
)

// Drivers knows which devices of this machine a release has no driver for
// (drivers.Machine). slot is the partition that runs: "vda2".
type Drivers interface {
	Lost(next drivers.Release, slot string) ([]drivers.Device, error)
	InUse(slot string) ([]drivers.Device, error)
}

// lacking is a release that was found to have no driver for some devices of
// this box.
type lacking struct {
	Version  string           `json:"version"`
	RootHash string           `json:"root_hash"` // hex
	Lost     []drivers.Device `json:"lost"`
}

// errUnfit says that a release was looked at and is not for this box.
var errUnfit = errors.New("it has no driver for what this box uses")

// fits is nil when the staged release has a driver for every device that the
// box uses, but for those that it drops on purpose. It is looked at before the
// switch, since without its network a box in the field can only go back. A
// release that does not fit is remembered, for choose to pass it over. What
// cannot be read is left to the trial.
func (u *Updater) fits(t release.Target) error {
	if u.cfg.Drivers == nil {
		return nil
	}
	slot, err := stage.ReadSlot(u.cfg.Dev, node(u.slots.Other))
	if err != nil {
		return err
	}
	defer slot.Close()
	h, err := slot.Header()
	if err != nil {
		return err
	}
	lost, err := u.cfg.Drivers.Lost(drivers.Release{Root: slot, UKI: slot.Kernel(h)}, node(u.slots.Running))
	if err != nil {
		u.log.Warn("whether a release has all drivers of this box is not known", "version", t.Version, "error", err)
	}
	missed := slices.DeleteFunc(slices.Clone(lost), func(d drivers.Device) bool { return d.DrivenBy(t.DropsDrivers) })
	if len(missed) == 0 {
		if len(lost) > 0 {
			u.log.Warn("a release drops drivers of devices that this box uses, on purpose", "version", t.Version, "devices", names(lost))
		}
		return nil
	}
	u.st.Lacking = append(slices.DeleteFunc(u.st.Lacking, func(l lacking) bool { return l.RootHash == t.RootHash || !u.offered(l.RootHash) }),
		lacking{Version: t.Version, RootHash: t.RootHash, Lost: lost})
	if err := u.st.save(u.cfg.State); err != nil {
		return err
	}
	u.log.Warn("a release has no driver for what this box uses", "version", t.Version, "devices", names(missed))
	u.choose()
	return fmt.Errorf("release %s may not be installed: %w: %s", t.Version, errUnfit, names(missed))
}

// unfit is which drivers r lacks, "" if none that is known. A device that is no
// longer in use is not missed, nor is one whose driver r drops on purpose.
func (u *Updater) unfit(r *release.Target) string {
	i := slices.IndexFunc(u.st.Lacking, func(l lacking) bool { return l.RootHash == r.RootHash })
	if i < 0 || u.cfg.Drivers == nil {
		return ""
	}
	used, err := u.cfg.Drivers.InUse(node(u.slots.Running))
	missed := slices.DeleteFunc(slices.Clone(u.st.Lacking[i].Lost), func(d drivers.Device) bool {
		return d.DrivenBy(r.DropsDrivers) || err == nil && !slices.ContainsFunc(used, func(o drivers.Device) bool { return o.Modalias == d.Modalias })
	})
	if len(missed) == 0 {
		return ""
	}
	return errUnfit.Error() + ": " + names(missed)
}

// offered says whether the catalog has a release with that root.
func (u *Updater) offered(rootHash string) bool {
	return u.catalog != nil && slices.ContainsFunc(u.catalog.Releases, func(r release.Target) bool { return r.RootHash == rootHash })
}

func names(devices []drivers.Device) string {
	var all []string
	for _, d := range devices {
		all = append(all, d.String())
	}
	return strings.Join(all, ", ")
}
