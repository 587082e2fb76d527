package image

import (
	"fmt"
	"os"
	"time"

	"github.com/waysideos/wayside/image/disk"
	"github.com/waysideos/wayside/image/layout"
)

// PutFile puts a file on the boot partition of a finished image, such as the
// site profile at layout.ESPSite, or removes it if data is nil. With the data
// that a build was given, the image is the one the build makes. The image
// must not be in use; see disk.PutFile.
func PutFile(img, name string, data []byte) error {
	f, err := os.OpenFile(img, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	if err := putFile(f, name, data); err != nil {
		f.Close()
		return fmt.Errorf("%s: %w", img, err)
	}
	return f.Close()
}

func putFile(f *os.File, name string, data []byte) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	p, err := open(f, info.Size())
	if err != nil {
		return err
	}
	esp, err := p.find(layout.ESP)
	if err != nil {
		return err
	}
	// The kernel image was written by the build; its time is everybody's.
	at := time.Time{}
	for _, file := range p.files {
		if file.Path == p.ukis[0].path {
			at = file.Time
		}
	}
	return disk.PutFile(newSection(f, esp.Start, esp.Size), esp.Size, name, data, at)
}
