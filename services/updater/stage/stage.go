// Package stage writes a release into the inactive slot so that a power cut
// at any write leaves a slot that init refuses or one that is whole: the
// staged kernel image's header goes away first and comes back last, after all
// else was read back from the disk and found to be what was signed.
package stage

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"

	"github.com/waysideos/wayside/image/layout"
	"github.com/waysideos/wayside/image/release"
	"github.com/waysideos/wayside/image/verity"
	"github.com/waysideos/wayside/services/manifest"
	"github.com/waysideos/wayside/services/updater/trust"
)

var (
	// ErrRoom says that the release does not fit the slot.
	ErrRoom = errors.New("the release does not fit")
	// ErrContent says that what was fetched is not what was signed. The next
	// Run begins anew; another source may be better.
	ErrContent = errors.New("what was fetched is not what was signed")
)

// Content is where the bytes of a release come from.
type Content interface {
	// Fill makes the slot hold data blocks and verity superblock, and the
	// kernel image in its place, and keeps p true as it goes. The hash tree is
	// not transferred. Fill may be called again after any error.
	Fill(ctx context.Context, j *Job, p *Progress) error
}

// Progress is how far a release is on stable storage. The zero value is a
// release of which nothing is.
type Progress struct {
	RootHash string `json:"root_hash,omitempty"` // hex
	UKI      string `json:"uki,omitempty"`       // SHA-256, hex
	Root     int64  `json:"root_bytes"`          // of content
	UKIBytes int64  `json:"uki_bytes"`
	Done     bool   `json:"done"` // verified, header written
}

// Job is one release to be staged. Save keeps its progress durably.
type Job struct {
	Target  release.Target
	UKI     trust.File
	Content Content
	Slot    Slot
	Save    func(Progress) error
	// Step is told what is done, for people, and how far, in bytes; may be nil.
	Step func(what string, done, total int64)
	Log  *slog.Logger
}

// ContentBytes is the size of a release's content.
func ContentBytes(t release.Target) int64 { return (t.DataBlocks + 1) * layout.VerityBlock }

// Check refuses what cannot be staged, before anything is written.
func Check(t release.Target, uki trust.File, slot int64) error {
	switch {
	case verity.Size(t.DataBlocks) != t.RootBytes:
		return fmt.Errorf("release %s contradicts itself: a root of %d blocks takes %d bytes with its hash tree, and it says %d", t.Version, t.DataBlocks, verity.Size(t.DataBlocks), t.RootBytes)
	case uki.Length != t.UKIBytes:
		return fmt.Errorf("release %s contradicts itself: its kernel image has %d bytes, and it says %d", t.Version, uki.Length, t.UKIBytes)
	case t.UKIBytes > manifest.StagedMax:
		return fmt.Errorf("%w: its kernel image has %d bytes, the most is %d", ErrRoom, t.UKIBytes, manifest.StagedMax)
	case t.RootBytes > manifest.StagedOffset(slot):
		return fmt.Errorf("%w: its root takes %d bytes, and the slot of this box has %d for it", ErrRoom, t.RootBytes, max(0, manifest.StagedOffset(slot)))
	}
	return nil
}

// Run stages the release, from where p stands. It may be called again after
// any error and any end of the process.
func (j *Job) Run(ctx context.Context, p Progress) error {
	if err := Check(j.Target, j.UKI, j.Slot.Size); err != nil {
		return err
	}
	if j.Step == nil {
		j.Step = func(string, int64, int64) {}
	}
	uki := hex.EncodeToString(j.UKI.SHA256[:])
	if p.RootHash != j.Target.RootHash || p.UKI != uki {
		p = Progress{RootHash: j.Target.RootHash, UKI: uki}
	}
	if p.Done && j.Staged() == nil {
		return nil
	}
	p.Done = false
	if err := j.Slot.clearHeader(); err != nil {
		return err
	}
	// Saved before the first byte: what was in the slot before is no start for
	// another release.
	if err := j.Save(p); err != nil {
		return err
	}
	if err := j.Content.Fill(ctx, j, &p); err != nil {
		return err
	}
	if err := j.verifyRoot(ctx, &p); err != nil {
		return err
	}
	if err := j.verifyKernel(&p); err != nil {
		return err
	}
	if err := j.Slot.writeHeader(j.header()); err != nil {
		return err
	}
	p.Done = true
	return j.Save(p)
}

// Staged is nil when the slot's header says that this release is staged.
func (j *Job) Staged() error {
	got, err := j.Slot.Header()
	if err == nil && got != j.header() {
		err = fmt.Errorf("%w: the slot holds %s", manifest.ErrNotStaged, got.Version)
	}
	return err
}

func (j *Job) header() manifest.Staged {
	s := manifest.Staged{Version: j.Target.Version, Counter: j.Target.Counter, Length: j.UKI.Length, SHA256: j.UKI.SHA256}
	hash, _ := hex.DecodeString(j.Target.RootHash) // DecodeTarget has seen it
	copy(s.RootHash[:], hash)
	return s
}

// again forgets the progress of what proved wrong.
func (j *Job) again(p *Progress, cause error) error {
	return errors.Join(cause, j.Save(*p))
}
