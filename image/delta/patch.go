package delta

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/klauspost/compress/zstd"
)

var patchMagic = [4]byte{'W', 'S', 'D', 'T'}

const patchVersion = 1

// MaxPatch is the most bytes that a patch has, which a box keeps in memory.
const MaxPatch = 8 << 20

// PatchFile is a patch that can be had; Read returns all of it.
type PatchFile struct {
	Size int64 // bytes
	Read func(context.Context) ([]byte, error)
}

// Patch makes segments of one release out of one older release: where code
// only moved, nearly every byte of a program differs in what it refers to, by
// few and constant amounts. A patch is good for one pair of releases; without
// it, or where it does not fit, the same comes out of the pack.
type Patch struct {
	frames [][]byte
	frame  map[int]int // of each part
	inside [][]int     // parts of each frame
	have   []int32     // of each object of the index, its number in Patcher.Have

	open  int            // frame that is decoded, or -1
	parts map[int][]byte // of it
	plain []byte
}

// ReadPatch reads a patch for an index and for what is held. It may be
// anything: what is made with it has to be checked.
func ReadPatch(data []byte, x *Index, have []Source) (*Patch, error) {
	d := &decoder{data: data}
	head := d.bytes(len(patchMagic) + 1 + digestBytes)
	if d.err == nil && [5]byte(head) != [5]byte(append(patchMagic[:], patchVersion)) {
		d.fail("it is no patch of format %d", patchVersion)
	}
	if d.err == nil && !bytes.Equal(head[5:], x.sum[:]) {
		d.fail("it is for another index")
	}
	p := &Patch{frame: map[int]int{}, open: -1}
	for d.err == nil && len(d.data) > 0 {
		var parts []int
		last := -1
		for n := d.uint("segments", 1, int64(len(x.parts))); n > 0 && d.err == nil; n-- {
			last += int(d.uint("segment", 1, int64(len(x.parts)-1-last)))
			if _, twice := p.frame[last]; twice { // what is kept of a patch stays in proportion to the index
				d.fail("segment %d is in two frames", last)
			}
			p.frame[last] = len(p.frames)
			parts = append(parts, last)
		}
		p.inside = append(p.inside, parts)
		p.frames = append(p.frames, d.bytes(int(d.uint("size", 1, 2*limitSegment))))
	}
	if d.err != nil {
		return nil, fmt.Errorf("read patch: %w", d.err)
	}
	for _, o := range x.Objects {
		p.have = append(p.have, int32(slices.IndexFunc(have, func(s Source) bool { return s.Name == o.Name })))
	}
	return p, nil
}

// load decodes a frame. Parts are asked for in order, so each is decoded once.
func (p *Patch) load(z *zstd.Decoder, frame int) error {
	if p.open == frame {
		return nil
	}
	p.open = -1
	plain, err := z.DecodeAll(p.frames[frame], p.plain[:0])
	if err != nil {
		return err
	}
	p.plain, p.parts = plain, map[int][]byte{}
	d := &decoder{data: plain}
	for _, n := range p.inside[frame] {
		p.parts[n] = d.bytes(int(d.uint("size", 0, int64(len(plain)))))
	}
	if d.err == nil {
		p.open = frame
	}
	return d.err
}

// part makes a part in buf, which has its size.
func (p *Patch) part(z *zstd.Decoder, n int, buf []byte, read func(place, []byte) error) ([]byte, error) {
	if err := p.load(z, p.frame[n]); err != nil {
		return nil, err
	}
	d := &decoder{data: p.parts[n]}
	left := buf
	for count := d.uint("runs", 0, int64(len(buf))); count > 0 && d.err == nil; count-- {
		object := d.uint("object", 0, int64(len(p.have))) - 1
		off := int64(0)
		if object >= 0 {
			off = d.uint("offset", 0, limitObject)
		}
		size := d.uint("size", 1, int64(len(left)))
		if d.err != nil {
			return nil, d.err
		}
		run := left[:size]
		switch {
		case object < 0:
			clear(run)
		case p.have[object] < 0:
			return nil, errors.New("what it is made of is not held")
		default:
			if err := read(place{p.have[object], off}, run); err != nil {
				return nil, err
			}
		}
		left = left[len(run):]
	}
	if d.err == nil && len(left) != 0 {
		d.fail("it is for another segment")
	}
	d.edit(buf)
	return buf, d.err
}
