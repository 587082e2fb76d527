package slots

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// op is one change of the folder of kernel images. A plan's ops are done in
// order, each on stable storage before the next begins.
type op struct {
	kind opKind
	file string
	to   string // of a rename
}

type opKind string

const (
	opForget opKind = "forget" // a second name of one content
	opRemove opKind = "remove"
	opCreate opKind = "create"
	opRename opKind = "rename"
)

// Verdict is what the loader is told of the running version.
type Verdict string

const (
	Good  Verdict = "good"  // boots from now on, uncounted
	Bad   Verdict = "bad"   // never again while there is another
	Again Verdict = "again" // this boot shall not count
	// Keep is about the version that was to be tried: it is removed, and the
	// running one boots from now on.
	Keep Verdict = "keep"
)

// Refusal is an error that asking again does not change, in words for people.
type Refusal string

func (r Refusal) Error() string { return string(r) }

// Refused tells a caller that does not know this package.
func (Refusal) Refused() bool { return true }

const (
	// ErrNoOther says that there is no other version to go back to.
	ErrNoOther Refusal = "no other version on the boot partition could be booted"
	// ErrNotKnown says that the running version's entry could not be told
	// from the loader's words.
	ErrNotKnown Refusal = "the boot loader does not say which kernel image runs"
)

func refuse(format string, args ...any) error { return Refusal(fmt.Sprintf(format, args...)) }

// Boot is the boot partition as the loader sees it.
type Boot struct {
	Entries []Entry // in the loader's order, those that it passes over last
	Running *Entry  // nil if it could not be told
	Free    int64   // bytes
	twins   []op
}

// Next is the entry that the loader starts at the next boot.
func (b *Boot) Next() *Entry {
	if len(b.Entries) == 0 || b.Entries[0].Broken != "" {
		return nil
	}
	return &b.Entries[0]
}

// Find gives the entry of the version whose slot has this root.
func (b *Boot) Find(rootHash string) *Entry {
	for i := range b.Entries {
		if strings.EqualFold(b.Entries[i].Image.RootHash, rootHash) && rootHash != "" {
			return &b.Entries[i]
		}
	}
	return nil
}

// planTry makes room for a new kernel image of size bytes, has it written,
// and makes sure that the loader starts it next. The running entry is touched
// last, and only where the loader would otherwise prefer it: marked as out of
// tries it comes after the new one while that has tries left, and before it
// once both have none, for then it is the higher version, or has fewer tries.
func planTry(b *Boot, next Entry, room int64) ([]op, error) {
	if b.Running == nil {
		return nil, ErrNotKnown
	}
	if b.Running.Counted {
		return nil, refuse("%s is itself on trial", b.Running.Image.Version)
	}
	if strings.EqualFold(next.Base, b.Running.Base) {
		return nil, refuse("version %s is the one that runs", next.Image.Version)
	}
	plan := slices.Clone(b.twins)
	left := []Entry{next}
	free := b.Free
	for _, e := range b.Entries {
		if e.Ours() && e.File != b.Running.File {
			plan, free = append(plan, op{kind: opRemove, file: e.File}), free+e.Size
			continue
		}
		left = append(left, e)
	}
	if free < room {
		return nil, fullError(b, room, free)
	}
	plan = append(plan, op{kind: opCreate, file: next.File})
	if order(left)[0].File != next.File {
		for i := range left {
			if left[i].File == b.Running.File {
				to := counted(b.Running.Base, 0, 0)
				plan = append(plan, op{opRename, b.Running.File, to})
				left[i].File, left[i].Counted, left[i].Left = to, true, 0
			}
		}
	}
	if before := order(left)[0]; before.File != next.File {
		return nil, foreignError(before, next)
	}
	// When all tries are used, the running version must come next.
	for i := range left {
		if left[i].File == next.File {
			left[i].Left, left[i].Done = 0, next.Left
		}
	}
	if before := order(left)[0]; before.Base != b.Running.Base {
		return nil, foreignError(before, *b.Running)
	}
	return plan, nil
}

func foreignError(before, ours Entry) error {
	return refuse("the loader would start the foreign kernel image %s before version %s: remove it from EFI/Linux of the boot partition", before.File, ours.Image.Version)
}

// fullError says what takes the room.
func fullError(b *Boot, room, free int64) error {
	foreign := slices.DeleteFunc(slices.Clone(b.Entries), func(e Entry) bool { return e.Ours() })
	slices.SortFunc(foreign, func(a, b Entry) int { return -cmp.Compare(a.Size, b.Size) })
	words := fmt.Sprintf("boot partition full: the new kernel image needs %d bytes, %d can be had; remove files that are not Wayside's from it", room, free)
	for _, e := range foreign[:min(3, len(foreign))] {
		words += fmt.Sprintf(", such as EFI/Linux/%s (%d bytes)", e.File, e.Size)
	}
	return Refusal(words)
}

// planSettle tells the loader of a verdict.
func planSettle(b *Boot, v Verdict) ([]op, error) {
	if b.Running == nil {
		return nil, ErrNotKnown
	}
	run := *b.Running
	plan := slices.Clone(b.twins)
	rename := func(to string) {
		if to == run.File {
			return
		}
		for _, e := range b.Entries { // left of a version of the same name
			if strings.EqualFold(e.File, to) && e.File != run.File {
				plan = append(plan, op{kind: opRemove, file: e.File})
			}
		}
		plan = append(plan, op{opRename, run.File, to})
	}
	switch v {
	case Good:
		rename(run.Base)
	case Again:
		if run.Counted && run.Done > 0 {
			rename(counted(run.Base, run.Left+1, run.Done-1))
		}
	case Bad:
		if !slices.ContainsFunc(b.Entries, func(e Entry) bool { return e.Broken == "" && e.Ours() && e.File != run.File }) {
			return nil, ErrNoOther
		}
		// Once more than the one it goes back to was ever tried, should that
		// be out of tries as well and of the same version.
		rename(counted(run.Base, 0, max(run.Done, 1)))
	case Keep:
		rename(run.Base)
		for _, e := range b.Entries {
			if e.Ours() && e.Counted && e.File != run.File {
				plan = append(plan, op{kind: opRemove, file: e.File})
			}
		}
	default:
		return nil, fmt.Errorf("verdict %q", v)
	}
	return plan, nil
}
