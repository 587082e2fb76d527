package image

import (
	"io"

	"github.com/waysideos/wayside/image/disk"
	"github.com/waysideos/wayside/image/flash"
	"github.com/waysideos/wayside/image/layout"
	"github.com/waysideos/wayside/image/verity"
)

// Used is the block map of an image: what has to be on a disk that shall be
// this image's. It follows from what the image holds, not from where its file
// has holes: a copy of the file may have none, or holes where a FAT has zeros
// that count.
func Used(img io.ReaderAt, size int64) ([]flash.Range, error) {
	p, err := open(img, size)
	if err != nil {
		return nil, err
	}
	_, blocks, err := p.ukis[0].pin()
	if err != nil {
		return nil, err
	}
	used := []flash.Range{{Off: 0, Size: layout.Alignment}, {Off: size - layout.MiB, Size: layout.MiB}}
	for _, part := range p.table.Partitions {
		fat, err := disk.OpenFAT(io.NewSectionReader(img, part.Start, part.Size), part.Size)
		switch {
		case err == nil:
			fat.Used(func(off, n int64) { used = append(used, flash.Range{Off: part.Start + off, Size: n}) })
		case part.Start == p.slotStart:
			used = append(used, flash.Range{Off: part.Start, Size: verity.Size(blocks)})
		default: // not one of ours: all of it
			used = append(used, flash.Range{Off: part.Start, Size: part.Size})
		}
	}
	return flash.Merge(used, size), nil
}
