package delta

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
)

// Patcher makes the objects of a release out of what is held and what must be
// fetched. Plan, then Apply; to resume what was interrupted, the same again:
// what the targets hold already is found by its hash.
type Patcher struct {
	Index  *Index
	Pack   Pack
	Have   []Source        // what the box holds of older releases; nothing of it may be a target
	Target map[string]File // by the name of the object; all of the index
	// Patch, if the server has one for a release that is held, spares most of
	// what else is fetched. It is passed over where it cannot be had or costs
	// more than it can spare.
	Patch *PatchFile
	Log   *slog.Logger // nil: silent

	fetched int64
}

// Plan is what Apply will do.
type Plan struct {
	Fetch    int64 // bytes still to be fetched
	Requests int   // that it takes
	// Spent is what planning has fetched.
	Spent int64
	Whole bool // the pack is read from its start to the end of its first area

	patch  *Patch
	done   [][]bool // segments that the targets hold, by object
	origin []origin // by part
}

// origin says where a part comes from.
type origin struct {
	from where
	at   place // copied: where it is held
	// pieced: of each grain where it is held, or nowhere, and how large each
	// piece is in the pack.
	grains []place
	sizes  []int32
}

type where byte

const (
	fetched where = iota // whole
	copied
	pieced
	patched
	zeroed
)

// place is an offset in a source, or in a target where source is negative.
type place struct {
	source int32
	off    int64
}

var nowhere = place{off: -1}

func (p place) held() bool { return p.off >= 0 }

func targetPlace(object int, off int64) place { return place{int32(-1 - object), off} }

func (p *Patcher) log() *slog.Logger { return cmp.Or(p.Log, slog.New(slog.DiscardHandler)) }

// Fetched is how many bytes were asked for so far.
func (p *Patcher) Fetched() int64 { return p.fetched }

// Plan looks at targets and sources, asks for the hashes of segments that
// it could not find, and chooses the cheapest way.
func (p *Patcher) Plan(ctx context.Context) (*Plan, error) {
	for _, o := range p.Index.Objects {
		if p.Target[o.Name] == nil {
			return nil, fmt.Errorf("plan delta: no target for object %q", o.Name)
		}
	}
	plan := &Plan{origin: make([]origin, len(p.Index.parts))}
	for _, step := range []func(context.Context, *Plan) error{p.findDone, p.findInPlace, p.findMoved, p.findPatched, p.findGrains} {
		if err := step(ctx, plan); err != nil {
			return nil, fmt.Errorf("plan delta: %w", err)
		}
	}
	plan.Spent = p.fetched
	p.choose(plan)
	return plan, nil
}

// findDone looks which segments the targets hold.
func (p *Patcher) findDone(ctx context.Context, plan *Plan) error {
	buf := make([]byte, limitSegment)
	for i := range p.Index.Objects {
		o := &p.Index.Objects[i]
		done := make([]bool, len(o.parts))
		off := int64(0)
		for j, n := range o.parts {
			if err := ctx.Err(); err != nil {
				return err
			}
			x := &p.Index.parts[n]
			if x.zero {
				plan.origin[n].from = zeroed
			}
			// A target shorter than the object is one not written yet.
			if readAt(p.Target[o.Name], buf[:x.size], off) == nil && x.is(buf[:x.size]) {
				done[j] = true
				plan.origin[n] = origin{from: cmp.Or(plan.origin[n].from, copied), at: targetPlace(i, off)}
			}
			off += int64(x.size)
		}
		plan.done = append(plan.done, done)
	}
	return nil
}

func (x *part) is(data []byte) bool {
	if x.zero {
		return allZero(data)
	}
	return digestOf(data) == x.digest
}

func allZero(data []byte) bool {
	for _, b := range data {
		if b != 0 {
			return false
		}
	}
	return true
}

// findInPlace looks for segments where an older release has the like.
func (p *Patcher) findInPlace(ctx context.Context, plan *Plan) error {
	for i, src := range p.Have {
		o := p.Index.Object(src.Name)
		if o == nil {
			continue
		}
		off := int64(0)
		for _, n := range o.parts {
			if err := ctx.Err(); err != nil {
				return err
			}
			if plan.missing(n) {
				if err := p.try(plan, n, place{int32(i), off}); err != nil {
					return err
				}
			}
			off += int64(p.Index.parts[n].size)
		}
	}
	return nil
}

func (plan *Plan) missing(part int) bool { return plan.origin[part].from == fetched }

// try makes a place the origin of a part if it holds the part.
func (p *Patcher) try(plan *Plan, n int, at place) error {
	x, src := &p.Index.parts[n], p.Have[at.source]
	if at.off+int64(x.size) > src.Size {
		return nil
	}
	data := make([]byte, x.size)
	if err := readAt(src.Content, data, at.off); err != nil {
		return fmt.Errorf("read what is held of %s: %w", src.Name, err)
	}
	if x.is(data) {
		plan.origin[n] = origin{from: copied, at: at}
	}
	return nil
}

// tries bounds how often a segment is looked for where its first grain is
// found: that of some is everywhere.
const tries = 8

// findMoved looks for segments anywhere, by their first grain.
func (p *Patcher) findMoved(ctx context.Context, plan *Plan) error {
	s := newScanner(p.Index.grain)
	byHead := map[int][]int{}
	for n := range p.Index.parts {
		if x := &p.Index.parts[n]; plan.missing(n) && x.size >= p.Index.grain {
			number := s.add(x.head)
			byHead[number] = append(byHead[number], n)
		}
	}
	tried := make([]uint8, len(p.Index.parts))
	for i, src := range p.Have {
		err := s.scan(ctx, src, func(number int, off int64) error {
			for _, n := range byHead[number] {
				if !plan.missing(n) || tried[n] >= tries {
					continue
				}
				tried[n]++
				if err := p.try(plan, n, place{int32(i), off}); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// worthPatch is the part of what missing segments take whole that a patch may
// cost. By ranges they take half of it or more.
const worthPatch = 0.5

// findPatched fetches the patch, if it is worth its bytes, and takes from it
// what it has.
func (p *Patcher) findPatched(ctx context.Context, plan *Plan) error {
	wanted, _ := p.fine(plan)
	var most int64
	for _, n := range wanted {
		most += p.Index.parts[n].whole.size
	}
	if p.Patch == nil || p.Patch.Size > MaxPatch || float64(p.Patch.Size) > worthPatch*float64(most) {
		return nil
	}
	data, err := p.Patch.Read(ctx)
	p.fetched += int64(len(data))
	if err == nil {
		plan.patch, err = ReadPatch(data, p.Index, p.Have)
	}
	if err != nil {
		p.log().Warn("the patch is of no use", "error", err)
		return ctx.Err()
	}
	for n := range plan.patch.frame {
		if plan.missing(n) {
			plan.origin[n] = origin{from: patched}
		}
	}
	return nil
}

// fine are the parts not found so far that have a fine form, and where the
// pack has the hashes of their grains.
func (p *Patcher) fine(plan *Plan) (wanted []int, hashes []extent) {
	for n := range p.Index.parts {
		if x := &p.Index.parts[n]; plan.missing(n) && x.hashes.size > 0 {
			wanted = append(wanted, n)
			hashes = append(hashes, x.hashes)
		}
	}
	return wanted, hashes
}

// findGrains fetches the hashes of segments not found and looks for their
// grains. Without ranges there is nothing to be had by it.
func (p *Patcher) findGrains(ctx context.Context, plan *Plan) error {
	wanted, extents := p.fine(plan)
	if len(wanted) == 0 || len(p.Have) == 0 {
		return nil
	}
	m, err := p.match(ctx, wanted, join(extents))
	if wrong(err) {
		p.log().Warn("a range of the pack is wrong, all of it will be fetched", "error", err)
		plan.Whole = true
		return nil
	}
	if err == nil {
		m.settle(plan)
	}
	return err
}

// match looks for the grains of parts, whose hashes lie in the ranges.
func (p *Patcher) match(ctx context.Context, wanted []int, ranges []extent) (*matcher, error) {
	f := fetcher{pack: p.Pack, ranges: ranges, count: &p.fetched}
	defer f.close()
	m := newMatcher(p.Index)
	for _, n := range wanted {
		buf := make([]byte, p.Index.parts[n].hashes.size)
		if err := f.read(ctx, p.Index.parts[n].hashes.off, buf); err != nil {
			return nil, err
		}
		m.add(n, buf)
	}
	for i, src := range p.Have {
		if err := m.scan(ctx, i, src); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// choose fills in what will be fetched, and takes the whole pack where that is
// not more.
func (p *Patcher) choose(plan *Plan) {
	if !plan.Whole {
		whole, pieces := p.extents(plan)
		ranges := append(whole, pieces...)
		plan.Fetch, plan.Requests = total(ranges), len(ranges)
		plan.Whole = plan.Fetch+gap*int64(plan.Requests-1) >= p.Index.Full()-packHeader
	}
	if plan.Whole {
		plan.Fetch, plan.Requests = p.Index.Full(), 1
	}
}

// extents are the ranges to fetch of the areas of whole segments and of pieces.
func (p *Patcher) extents(plan *Plan) (whole, pieces []extent) {
	for n := range plan.origin {
		x := &p.Index.parts[n]
		switch o := &plan.origin[n]; o.from {
		case fetched:
			whole = append(whole, x.whole)
		case pieced:
			for _, piece := range o.pieces(p.Index, x) {
				pieces = append(pieces, piece.extent)
			}
		}
	}
	return join(whole), join(pieces)
}
