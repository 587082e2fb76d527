package slots

import (
	"bytes"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/waysideos/wayside/init/fat"
	"github.com/waysideos/wayside/init/gpt"
)

// LoaderFile is a program of the boot loader.
type LoaderFile struct {
	Path    string // on the boot partition
	Content []byte
}

// sound says that a file is of the kind that its name says: the last look before
// what cannot be taken back.
func (f LoaderFile) sound() bool {
	switch path.Ext(f.Path) {
	case ".scr": // U-Boot's legacy image header
		return bytes.HasPrefix(f.Content, []byte{0x27, 0x05, 0x19, 0x56})
	case ".bin":
		return bytes.Contains(f.Content, []byte("U-Boot 2"))
	}
	return bytes.HasPrefix(f.Content, []byte("MZ")) // a PE program
}

// Install makes the boot partition hold these programs, in the order given; what
// it holds already is not written. A power cut leaves each of them old or new,
// whole, and those before it new: any such mix must boot. The running version
// must not be on trial: nothing here can be taken back.
func (p Partition) Install(files []LoaderFile, now time.Time) (changed []string, err error) {
	for _, f := range files {
		if !f.sound() {
			return nil, refuse("%s is nothing that starts", f.Path)
		}
	}
	err = p.ESP(func(d gpt.Disk, size int64) error {
		v, err := fat.Open(d, size)
		if err != nil {
			return err
		}
		if _, err := v.Reclaim(); err != nil { // of a try before
			return err
		}
		for _, f := range files {
			dir, name := path.Split(f.Path)
			if same, err := holds(v, dir, name, f.Content); err != nil || same {
				if err != nil {
					return err
				}
				continue
			}
			if err := v.Replace(dir, name, f.Content, now); err != nil {
				return err
			}
			changed = append(changed, f.Path)
		}
		return nil
	})
	return changed, err
}

// holds says whether a file has a content already.
func holds(v *fat.Volume, dir, name string, want []byte) (bool, error) {
	files, err := v.List(dir)
	if err != nil {
		return false, err
	}
	i := slices.IndexFunc(files, func(f fat.File) bool { return strings.EqualFold(f.Name, name) })
	if i < 0 || files[i].Size != int64(len(want)) {
		return false, nil
	}
	r, err := v.Read(files[i])
	if err != nil {
		return false, nil // what cannot be read is replaced
	}
	got, err := io.ReadAll(r)
	return err == nil && bytes.Equal(got, want), nil
}
