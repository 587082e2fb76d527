package updater

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/waysideos/wayside/services/manifest"
	"github.com/waysideos/wayside/services/site"
	"github.com/waysideos/wayside/services/updater/drivers"
	"github.com/waysideos/wayside/services/updater/stage"
	"github.com/waysideos/wayside/services/updater/updatertest"
)

var card = drivers.Device{Use: "net/eth0", Modalias: "virtio:d1", Module: "virtio_net", Driver: "virtio_net"}

const missesCard = "it has no driver for what this box uses: net/eth0 (virtio:d1, whose driver is virtio_net)"

// machine has devices, for some of which the release in the other slot has no
// driver.
type machine struct {
	b    *box
	used []drivers.Device
	lost map[string][]drivers.Device // by version
	err  error
	seen []string // versions that were looked at
}

func (m *machine) InUse(string) ([]drivers.Device, error) { return m.used, nil }

func (m *machine) Lost(next drivers.Release, slot string) ([]drivers.Device, error) {
	h, err := next.Root.(stage.Slot).Header()
	if err != nil {
		return nil, err
	}
	m.seen = append(m.seen, h.Version)
	return slices.DeleteFunc(slices.Clone(m.lost[h.Version]), func(d drivers.Device) bool { return !slices.Contains(m.used, d) }), m.err
}

func newMachine(t *testing.T, lost map[string][]drivers.Device) (*box, *machine) {
	t.Helper()
	m := &machine{used: []drivers.Device{card}, lost: lost}
	b := newBox(t, func(c *Config) { c.Drivers = m })
	m.b = b
	return b, m
}

// refusedFor wants the box to say that a version is passed over, and why.
func (b *box) refusedFor(version, why string) {
	b.t.Helper()
	if v := b.Update(); !slices.Contains(v.Refused, manifest.Fact{Name: version, Value: why}) {
		b.t.Errorf("the box refuses %v, want %s: %s", v.Refused, version, why)
	}
}

// TestDriverLeftOut: a release without a driver of a device in use is refused
// before the switch, also after a restart; what cannot be told is left to the
// trial.
func TestDriverLeftOut(t *testing.T) {
	b, m := newMachine(t, map[string][]drivers.Device{"2.0": {card}})
	b.publish("2.0", 2)
	b.do("refresh", b.refresh)
	for i, verb := range []func(*Updater, context.Context) error{(*Updater).prepare, (*Updater).activate, (*Updater).prepare} {
		if err := verb(b.Updater, t.Context()); err == nil || !strings.Contains(err.Error(), "release 2.0 may not be installed: "+missesCard) {
			t.Errorf("%s: got %v, want the device named", []string{"prepare", "activate", "prepare again"}[i], err)
		}
		if i != 1 { // nobody has looked at the repository since the restart
			b.tell()
			b.refusedFor("2.0", missesCard)
		}
		if i < 2 {
			b.restart()
		}
	}
	if v := b.Update(); v.Prepared != nil || v.Available != nil {
		t.Errorf("got prepared %v, available %v", v.Prepared, v.Available)
	}
	b.init.took(t)
	if len(m.seen) != 1 {
		t.Errorf("it was looked at %d times, want once: it is remembered", len(m.seen))
	}
	b.do("retry", func(ctx context.Context) error { return b.retry(ctx, "2.0") })
	b.init.took(t) // which knows nothing of it
	m.lost, m.err = nil, errors.New("no file system")
	b.do("prepare", b.prepare)
	b.do("activate", b.activate)
	b.init.took(t, "/update/activate")
}

// TestDeviceCameLate: one that was plugged in after the release was prepared
// counts as well; without it the release fits.
func TestDeviceCameLate(t *testing.T) {
	b, m := newMachine(t, map[string][]drivers.Device{"2.0": {card}})
	m.used = nil
	b.publish("2.0", 2)
	b.do("refresh", b.refresh)
	b.do("prepare", b.prepare)
	m.used = []drivers.Device{card}
	if err := b.activate(t.Context()); !errors.Is(err, errUnfit) {
		t.Errorf("with the device: got %v, want it refused", err)
	}
	b.tell()
	b.refusedFor("2.0", missesCard)
	m.used = nil
	b.do("activate", b.activate)
}

// TestNewestThatFits: a release that does not fit hides no older one, and the
// box says which one it passed over, and why.
func TestNewestThatFits(t *testing.T) {
	b, m := newMachine(t, map[string][]drivers.Device{"3.0": {card}, "4.0": {card}})
	b.publish("2.0", 2)
	b.publish("3.0", 3)
	b.publish("4.0", 4)
	b.do("refresh", b.refresh)
	b.do("prepare", b.prepare)
	v := b.Update()
	if v.Prepared == nil || v.Prepared.Version != "2.0" || v.Phase != manifest.UpdatePrepared {
		t.Errorf("got %+v prepared, phase %s; want 2.0", v.Prepared, v.Phase)
	}
	b.refusedFor("4.0", missesCard)
	b.refusedFor("3.0", missesCard)
	b.do("activate", b.activate)
	b.init.took(t, "/update/activate")
	if want := []string{"4.0", "3.0", "2.0", "2.0"}; !slices.Equal(m.seen, want) {
		t.Errorf("looked at %v, want %v: each that does not fit once", m.seen, want)
	}
}

// TestByItself: the schedule takes the newest that fits as well.
func TestByItself(t *testing.T) {
	b, _ := newMachine(t, map[string][]drivers.Device{"3.0": {card}})
	b.cfg.Site.Auto = site.AutoInstall
	b.restart()
	b.publish("2.0", 2)
	b.publish("3.0", 3)
	for range 4 {
		b.turn(t.Context())
	}
	b.init.took(t, "/update/activate", "/reboot", "/update/commit")
	if v := b.Update(); v.Running != "2.0" {
		t.Errorf("runs %s, want 2.0", v.Running)
	}
	b.refusedFor("3.0", missesCard)
}

// TestDroppedOnPurpose: what the owner signed that it goes is not missed; a
// release that is published anew with these words is taken after all.
func TestDroppedOnPurpose(t *testing.T) {
	disk := drivers.Device{Use: "block/sda", Modalias: "scsi:t-0x00", Module: "sd_mod", Driver: "sd"}
	b, m := newMachine(t, map[string][]drivers.Device{"2.0": {card, disk}})
	m.used = []drivers.Device{card, disk}
	r := b.publish("2.0", 2)
	b.do("refresh", b.refresh)
	if err := b.prepare(t.Context()); err == nil || !strings.Contains(err.Error(), errUnfit.Error()) {
		t.Errorf("without a word: got %v, want it refused", err)
	}
	drop := func(names ...string) {
		t.Helper()
		r.Target.DropsDrivers = names
		r.AddTo(b.repo)
		b.repo.Publish()
		b.do("refresh", b.refresh)
	}
	drop("virtio-net")
	if err := b.prepare(t.Context()); err == nil || strings.Contains(err.Error(), "net/eth0") || !strings.Contains(err.Error(), "block/sda") {
		t.Errorf("with one of two dropped: got %v, want the other one named", err)
	}
	drop("virtio-net", "sd_mod")
	b.do("prepare", b.prepare)
	b.do("activate", b.activate)
	b.init.took(t, "/update/activate")
}

// TestTooLargeHidesNothing: a release that no slot of this box holds is passed
// over for the newest that one does.
func TestTooLargeHidesNothing(t *testing.T) {
	b := newBox(t, nil)
	b.init.slots.Other.Size = front + manifest.StagedArea
	b.publish("2.0", 2)
	large := updatertest.NewRelease(t, "3.0", 3, 300, 20_000)
	large.AddTo(b.repo)
	b.repo.Publish()
	b.do("refresh", b.refresh)
	b.do("prepare", b.prepare)
	if v := b.Update(); v.Prepared == nil || v.Prepared.Version != "2.0" || len(v.Refused) != 1 || !strings.Contains(v.Refused[0].Value, "the release does not fit: its root takes ") {
		t.Errorf("got %+v prepared and %v refused", v.Prepared, v.Refused)
	}
}
