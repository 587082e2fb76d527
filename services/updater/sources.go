package updater

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/waysideos/wayside/image/delta"
	"github.com/waysideos/wayside/image/release"
	"github.com/waysideos/wayside/services/manifest"
	"github.com/waysideos/wayside/services/site"
	"github.com/waysideos/wayside/services/updater/source"
	"github.com/waysideos/wayside/services/updater/stage"
	"github.com/waysideos/wayside/services/updater/trust"
)

// named is a source as the profile calls it.
type named struct {
	source.Source
	name string
	box  bool // another box: it has the root as it is, and no pack
}

// network are the sources that need no stick, in the profile's order. A nil
// Source stands where the sticks come in.
func (u *Updater) network() []named {
	var out []named
	for _, s := range u.cfg.Site.Sources {
		if s == site.SourceUSB {
			out = append(out, named{name: s})
			continue
		}
		base, box := s, false
		if at, ok := strings.CutPrefix(s, site.SourceBox); ok {
			base, box = "http://"+at+strings.TrimSuffix(manifest.UpdateRepo, "/"), true
		}
		out = append(out, named{source.NewHTTP(base, source.Options{TLS: u.cfg.TLS}), s, box})
	}
	return out
}

// sources are those that are there now.
func (u *Updater) sources() []named {
	var out []named
	for _, s := range u.http {
		if s.Source != nil {
			out = append(out, s)
			continue
		}
		for _, stick := range source.Sticks(u.cfg.Media) {
			out = append(out, named{Source: stick, name: s.name + " " + string(stick)})
		}
	}
	return out
}

// sticks are the repositories that are plugged in, "" when none is or none is
// asked for. One that takes another's place, between two looks, is told from it
// by the file of its repository that is never twice the same.
func (u *Updater) sticks(ctx context.Context) string {
	var names []string
	for _, s := range u.sources() {
		if d, ok := s.Source.(source.Dir); ok {
			stamp, _ := source.ReadAll(ctx, d, "timestamp.json", maxStamp)
			names = append(names, fmt.Sprintf("%s %x", s.name, sha256.Sum256(stamp)))
		}
	}
	return strings.Join(names, "\n")
}

// maxStamp is as much as is read to know a stick again, in bytes.
const maxStamp = 64 << 10

// rootRaw is the file that another box offers in the place of root.pack: data
// blocks and verity superblock as they are. Nothing signs it but the root hash.
const rootRaw = "root.raw"

// content says how a release is fetched from a source; have is the slot that
// runs.
func (u *Updater) content(s named, t release.Target, uki trust.File, have []delta.Source) (stage.Content, error) {
	steady := &source.Steady{Source: s, Patience: u.pace.patience, Log: u.log, Got: u.m.got}
	if s.box {
		return stage.Whole{Source: steady, Root: path.Join("targets", t.Path(rootRaw)), UKI: uki.Name}, nil
	}
	pack, okPack := u.catalog.File(t, release.TargetPack)
	index, okIndex := u.catalog.File(t, release.TargetIndex)
	if !okPack || !okIndex {
		return nil, fmt.Errorf("release %s lacks %s or %s in the signed metadata", t.Version, release.TargetPack, release.TargetIndex)
	}
	d := stage.Delta{Source: steady, Index: index, Pack: pack.Name, Have: have}
	if patch, ok := u.catalog.File(t, release.TargetPatch(u.slots.Running.RootHash)); ok && have != nil {
		d.Patch = &patch
	}
	return d, nil
}

// running opens the slot that runs, for what the next release shares with it.
// Without it more is fetched, and that is all.
func (u *Updater) running() (have []delta.Source, done func()) {
	slot, err := stage.ReadSlot(u.cfg.Dev, node(u.slots.Running))
	if err != nil {
		u.log.Warn("what the running slot holds cannot be used", "error", err)
		return nil, func() {}
	}
	return slot.Held(), func() { slot.Close() }
}

// node is the name of a slot's device in Config.Dev.
func node(s manifest.Slot) string { return strings.TrimPrefix(s.Device, "/dev/") }

// reachable is nil when a source on the network answers, whatever it says.
func (u *Updater) reachable(ctx context.Context) error {
	err := errors.New("the profile names no source on the network")
	for _, s := range u.http {
		if s.Source == nil {
			continue
		}
		in, openErr := s.Open(ctx, "timestamp.json", 0, source.Rest)
		if openErr == nil {
			in.Close()
			return nil
		}
		if source.KindOf(openErr) != source.Unreachable {
			return nil
		}
		err = openErr
	}
	return err
}
