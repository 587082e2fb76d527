package disk

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// ReaderWriterAt is a volume or disk image that may be changed in place.
type ReaderWriterAt interface {
	io.ReaderAt
	io.WriterAt
}

// PutFile puts one file into the FAT32 volume of size bytes, new or in the
// place of one of the same name; nil data removes it. The volume is written
// anew with all its files, and every entry gets the time given. This is for
// images at rest: an interrupted PutFile leaves a broken volume.
func PutFile(v ReaderWriterAt, size int64, name string, data []byte, at time.Time) error {
	f, err := OpenFAT(v, size)
	if err != nil {
		return err
	}
	infos, err := f.List()
	if err != nil {
		return err
	}
	var files []FATFile
	for _, info := range infos {
		if strings.EqualFold(info.Path, name) {
			continue
		}
		content, err := f.content(info)
		if err != nil {
			return err
		}
		files = append(files, FATFile{Path: info.Path, Data: content})
	}
	if data != nil {
		files = append(files, FATFile{Path: name, Data: slices.Clone(data)})
	}
	label := f.label
	if label == "NO NAME" {
		label = ""
	}
	volume := FATVolume{Size: int64(f.g.sectors) * fatSector, Label: label, Serial: f.serial, Hidden: f.hidden, Time: at, Reserved: map[int64][]byte{}}
	for at := int64(FirstReserved); at <= LastReserved; at++ {
		if volume.Reserved[at], err = f.Reserved(at); err != nil {
			return err
		}
	}
	if err := WriteFAT(v, volume, files); err != nil {
		return fmt.Errorf("put %s: %w", name, err)
	}
	return nil
}
