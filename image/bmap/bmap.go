// Package bmap writes and reads block maps in the format of bmap-tools,
// version 2.0, so that bmaptool flashes our images too: XML that names the
// blocks of an image that matter, with a SHA-256 of each range and one of the
// map itself.
package bmap

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/waysideos/wayside/image/flash"
)

// Suffix of a block map beside its image, "NAME.img.bmap": where bmaptool
// looks for it.
const Suffix = ".bmap"

// Map is the block map of an image.
type Map struct {
	Size   int64 // of the image, bytes
	Ranges []Range
}

// Range is one stretch of blocks that matter.
type Range struct {
	flash.Range
	SHA256 string // hex
}

// New reads the ranges of an image and maps them.
func New(img io.ReaderAt, size int64, used []flash.Range) (Map, error) {
	m := Map{Size: size}
	for _, r := range used {
		h := sha256.New()
		if n, err := io.Copy(h, io.NewSectionReader(img, r.Off, r.Size)); err != nil || n < r.Size {
			return Map{}, fmt.Errorf("map bytes %d to %d of the image: %v", r.Off, r.End(), err)
		}
		m.Ranges = append(m.Ranges, Range{r, hex.EncodeToString(h.Sum(nil))})
	}
	return m, nil
}

// noSum stands for the map's own checksum while that is computed.
var noSum = strings.Repeat("0", 2*sha256.Size)

// Encode writes the map.
func (m Map) Encode() []byte {
	var b bytes.Buffer
	var mapped int64
	for _, r := range m.Ranges {
		mapped += blocks(r.Size)
	}
	fmt.Fprintf(&b, `<?xml version="1.0" ?>
<!-- The blocks of an image that have to be written; bmaptool reads this. -->
<bmap version="2.0">
    <ImageSize> %d </ImageSize>
    <BlockSize> %d </BlockSize>
    <BlocksCount> %d </BlocksCount>
    <MappedBlocksCount> %d </MappedBlocksCount>
    <ChecksumType> sha256 </ChecksumType>
    <BmapFileChecksum> %s </BmapFileChecksum>
    <BlockMap>
`, m.Size, flash.Block, blocks(m.Size), mapped, noSum)
	for _, r := range m.Ranges {
		first, last := r.Off/flash.Block, r.Off/flash.Block+blocks(r.Size)-1
		span := fmt.Sprintf("%d-%d", first, last)
		if first == last {
			span = strconv.FormatInt(first, 10)
		}
		fmt.Fprintf(&b, "        <Range chksum=\"%s\"> %s </Range>\n", r.SHA256, span)
	}
	b.WriteString("    </BlockMap>\n</bmap>\n")
	sum := sha256.Sum256(b.Bytes())
	return bytes.Replace(b.Bytes(), []byte(noSum), []byte(hex.EncodeToString(sum[:])), 1)
}

func blocks(size int64) int64 { return (size + flash.Block - 1) / flash.Block }

// file is the XML.
type file struct {
	Version string `xml:"version,attr"`
	Size    string `xml:"ImageSize"`
	Block   string `xml:"BlockSize"`
	Kind    string `xml:"ChecksumType"`
	Sum     string `xml:"BmapFileChecksum"`
	Ranges  []struct {
		Sum  string `xml:"chksum,attr"`
		Span string `xml:",chardata"`
	} `xml:"BlockMap>Range"`
}

// Decode reads a map of version 2.0 with SHA-256, ours or bmaptool's, and
// refuses one that was altered.
func Decode(data []byte) (Map, error) {
	var f file
	if err := xml.Unmarshal(data, &f); err != nil {
		return Map{}, fmt.Errorf("read block map: %v", err)
	}
	sum := strings.TrimSpace(f.Sum)
	if major, _, _ := strings.Cut(f.Version, "."); major != "2" || strings.TrimSpace(f.Kind) != "sha256" || len(sum) != len(noSum) {
		return Map{}, fmt.Errorf("read block map: version %q with checksums %q, want 2.0 with sha256", f.Version, strings.TrimSpace(f.Kind))
	}
	if got := sha256.Sum256(bytes.Replace(data, []byte(sum), []byte(noSum), 1)); hex.EncodeToString(got[:]) != sum {
		return Map{}, errors.New("read block map: it is not what its checksum says")
	}
	m := Map{}
	var err error
	if m.Size, err = number(f.Size); err != nil {
		return Map{}, err
	}
	block, err := number(f.Block)
	if err != nil || block < 512 || block > 1<<20 || m.Size > 1<<50 {
		return Map{}, fmt.Errorf("read block map: blocks of %q bytes in an image of %d", f.Block, m.Size)
	}
	for _, r := range f.Ranges {
		from, to, err := span(r.Span)
		if err != nil || to < from || to > (m.Size-1)/block {
			return Map{}, fmt.Errorf("read block map: range %q of an image of %d blocks", r.Span, m.Size/block)
		}
		off := from * block
		m.Ranges = append(m.Ranges, Range{flash.Range{Off: off, Size: min((to+1)*block, m.Size) - off}, r.Sum})
	}
	return m, nil
}

func number(s string) (int64, error) {
	n, err := strconv.ParseInt(strings.TrimSpace(s), 10, 64)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("read block map: %q is no number", s)
	}
	return n, nil
}

// span reads "7" or "7-9".
func span(s string) (from, to int64, err error) {
	a, b, two := strings.Cut(strings.TrimSpace(s), "-")
	if from, err = number(a); err != nil || !two {
		return from, from, err
	}
	to, err = number(b)
	return from, to, err
}
