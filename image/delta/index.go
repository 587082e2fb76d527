package delta

import (
	"encoding/binary"
	"errors"
	"fmt"
)

var (
	indexMagic = [4]byte{'W', 'S', 'D', 'X'}
	packMagic  = [4]byte{'W', 'S', 'D', 'P'}
)

const (
	formatVersion = 1
	packHeader    = 8 // magic, version, three zero bytes
)

// Limits of what a reader believes; an index that breaks one is refused.
const (
	limitSegment  = 1 << 20 // bytes
	limitSegments = 1 << 20
	limitObject   = int64(1) << 40 // bytes
	limitObjects  = 16
	limitPack     = int64(1) << 41
)

// Index says what the objects of a release consist of and where a pack has it.
type Index struct {
	Objects []Object
	grain   int // bytes
	piece   int // bytes of a piece in the fine area, before compression
	parts   []part
	sum     digest // of its stored form, if it was read
	// The areas of the pack: whole segments, hashes of grains, pieces. Each
	// begins where the one before ends.
	wholeEnd, hashEnd, packEnd int64
}

// Object is one file of a release.
type Object struct {
	Name  string
	Size  int64
	parts []int // its segments in order, as numbers of Index.parts
}

// part is one content that segments have; equal segments share it.
type part struct {
	size   int
	zero   bool // nothing but zeros; what follows is empty
	digest digest
	head   uint32 // rolling hash of its first grain; without meaning if it is shorter
	whole  extent // in the pack, compressed
	hashes extent // of its grains, then sizes of its pieces; empty: it has no fine form
	pieces extent
}

// extent is a range of bytes of the pack.
type extent struct{ off, size int64 }

func (e extent) end() int64 { return e.off + e.size }

// Object returns the object of that name, nil if the release has none.
func (x *Index) Object(name string) *Object {
	for i := range x.Objects {
		if x.Objects[i].Name == name {
			return &x.Objects[i]
		}
	}
	return nil
}

// Full is how many bytes of the pack a full download reads, from its start.
func (x *Index) Full() int64 { return x.wholeEnd }

// Encode returns the stored form. docs/formats/delta.md has it byte by byte.
func (x *Index) Encode() []byte {
	b := append(indexMagic[:], formatVersion)
	b = binary.AppendUvarint(b, uint64(x.grain))
	b = binary.AppendUvarint(b, uint64(x.piece))
	b = binary.AppendUvarint(b, uint64(len(x.Objects)))
	next := 0
	for _, o := range x.Objects {
		b = binary.AppendUvarint(b, uint64(len(o.Name)))
		b = append(b, o.Name...)
		b = binary.AppendUvarint(b, uint64(o.Size))
		b = binary.AppendUvarint(b, uint64(len(o.parts)))
		for _, n := range o.parts {
			if n < next { // seen before: how far back
				b = binary.AppendUvarint(b, uint64(next-n))
				continue
			}
			b = append(b, 0)
			b = x.parts[n].encode(b)
			next++
		}
	}
	return b
}

func (p *part) encode(b []byte) []byte {
	if p.zero {
		return binary.AppendUvarint(b, uint64(p.size)<<1|1)
	}
	b = binary.AppendUvarint(b, uint64(p.size)<<1)
	b = append(b, p.digest[:]...)
	b = binary.LittleEndian.AppendUint32(b, p.head)
	for _, e := range []extent{p.whole, p.hashes, p.pieces} {
		b = binary.AppendUvarint(b, uint64(e.size))
	}
	return b
}

// ReadIndex reads an index. Its origin must have been verified before, but it
// may be anything: what it returns is safe to use.
func ReadIndex(data []byte) (*Index, error) {
	d := &decoder{data: data}
	x := d.index()
	x.sum = digestOf(data)
	if d.err == nil && len(d.data) != 0 {
		d.fail("%d bytes follow the last object", len(d.data))
	}
	if d.err == nil {
		d.err = x.place()
	}
	if d.err != nil {
		return nil, fmt.Errorf("read delta index: %w", d.err)
	}
	return x, nil
}

// place computes where everything lies in the pack.
func (x *Index) place() error {
	at := int64(packHeader)
	for _, area := range []struct {
		of  func(*part) *extent
		end *int64
	}{
		{func(p *part) *extent { return &p.whole }, &x.wholeEnd},
		{func(p *part) *extent { return &p.hashes }, &x.hashEnd},
		{func(p *part) *extent { return &p.pieces }, &x.packEnd},
	} {
		for i := range x.parts {
			e := area.of(&x.parts[i])
			e.off = at
			if at += e.size; at > limitPack {
				return errors.New("the pack is too large")
			}
		}
		*area.end = at
	}
	return nil
}

// decoder takes values off the front of data until the first error.
type decoder struct {
	data []byte
	err  error
}

func (d *decoder) fail(format string, a ...any) {
	if d.err == nil {
		d.err = fmt.Errorf(format, a...)
	}
	d.data = nil
}

func (d *decoder) bytes(n int) []byte {
	if n > len(d.data) {
		d.fail("it ends early")
		return make([]byte, min(n, 1<<10))
	}
	b := d.data[:n]
	d.data = d.data[n:]
	return b
}

// uint reads a number between low and high.
func (d *decoder) uint(what string, low, high int64) int64 {
	v, n := binary.Uvarint(d.data)
	if n <= 0 {
		d.fail("it ends early")
		return low
	}
	d.data = d.data[n:]
	if high < low || v < uint64(low) || v > uint64(high) {
		d.fail("%s %d is not between %d and %d", what, v, low, high)
		return low
	}
	return int64(v)
}

func (d *decoder) index() *Index {
	if head := d.bytes(len(indexMagic) + 1); d.err == nil && [4]byte(head) != indexMagic {
		d.fail("it is no delta index")
	} else if d.err == nil && head[4] != formatVersion {
		d.fail("it is of format %d, this program reads %d", head[4], formatVersion)
	}
	x := &Index{grain: int(d.uint("grain size", 16, limitSegment)), piece: int(d.uint("piece size", 16, limitSegment))}
	for n := d.uint("number of objects", 0, limitObjects); n > 0 && d.err == nil; n-- {
		d.object(x)
	}
	return x
}

func (d *decoder) object(x *Index) {
	o := Object{Name: string(d.bytes(int(d.uint("length of a name", 1, 255))))}
	if x.Object(o.Name) != nil {
		d.fail("object %q is there twice", o.Name)
	}
	o.Size = d.uint("object size", 0, limitObject)
	var sum int64
	for n := d.uint("number of segments", 0, limitSegments); n > 0 && d.err == nil; n-- {
		back := int(d.uint("reference to a segment", 0, int64(len(x.parts))))
		if back == 0 {
			x.parts = append(x.parts, d.part(x))
			back = 1
		}
		o.parts = append(o.parts, len(x.parts)-back)
		sum += int64(x.parts[len(x.parts)-back].size)
	}
	if d.err == nil && sum != o.Size {
		d.fail("segments of object %q are %d bytes, not %d", o.Name, sum, o.Size)
	}
	x.Objects = append(x.Objects, o)
}

func (d *decoder) part(x *Index) part {
	size := d.uint("segment size", 2, 2*limitSegment+1)
	p := part{size: int(size >> 1), zero: size&1 == 1}
	if p.zero {
		return p
	}
	copy(p.digest[:], d.bytes(digestBytes))
	p.head = binary.LittleEndian.Uint32(d.bytes(4))
	p.whole.size = d.uint("compressed size", 1, 2*limitSegment)
	p.hashes.size = d.uint("size of hashes", 0, 2*limitSegment)
	p.pieces.size = d.uint("size of pieces", 0, 4*limitSegment)
	if p.hashes.size != 0 && p.hashes.size < int64(p.size/x.grain*grainDigest) {
		d.fail("%d bytes of hashes for a segment of %d", p.hashes.size, p.size)
	}
	return p
}
