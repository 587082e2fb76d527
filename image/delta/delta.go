// Package delta writes a release so that a box fetches only what it does not
// already hold, from a web server that knows nothing but files and ranges,
// and puts the release together again on the box.
//
// The host writes an index and a pack for the objects of a release, its root
// and its UKI. Objects are cut into segments, at places that their content
// chooses. The index, which a box reads first and whole, has a hash of every
// segment. The pack has every segment compressed by itself, from start to end
// all a full download needs, then for segments that may differ from an older
// release only in places a list of hashes of their grains, and the same
// content again in small pieces.
//
// For boxes of which the host knows what they run it may write a patch as well,
// which makes segments of their like there.
//
// The box looks for segments, then for the grains of those it did not find,
// anywhere in what it holds, and asks for the rest by range. Every segment is
// checked before it is written; the caller checks the whole against the
// verity root. docs/formats/delta.md has the formats.
package delta

import (
	"crypto/sha256"
	"fmt"
	"io"
)

// Sizes that shape a release. They are a matter of the writer: a reader takes
// them from the index.
const (
	grainSize   = 256       // bytes found by a rolling hash
	pieceSize   = 1 << 10   // bytes of a segment compressed together in the fine area
	minSegment  = 16 << 10  // but for the last of an object
	maxSegment  = 128 << 10 // what is in memory at a time, and lost by one wrong bit
	grainDigest = 4         // bytes of the hash of a grain in the fine area
	digestBytes = 16        // of the hash of a segment
)

// Names of the objects of a release.
const (
	Root = "root" // EROFS, and the block of the verity superblock; the hash tree is computed
	UKI  = "uki"  // wayside.efi
)

// Source is something of known content that the box holds.
type Source struct {
	Name    string // that of the object it is likely to resemble at the same offset; may be ""
	Content io.ReaderAt
	Size    int64
}

// File is what an object is written to.
type File interface {
	io.ReaderAt
	io.WriterAt
}

// digest is SHA-256, truncated.
type digest [digestBytes]byte

func digestOf(data []byte) digest {
	sum := sha256.Sum256(data)
	return digest(sum[:digestBytes])
}

// ContentError says that a pack holds something else than its index says.
type ContentError struct {
	Offset int64 // in the pack
	Reason string
}

func (e *ContentError) Error() string {
	return fmt.Sprintf("pack: content at byte %d is not what the index says: %s", e.Offset, e.Reason)
}
