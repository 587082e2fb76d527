package slots

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"unicode/utf16"

	"github.com/waysideos/wayside/image/layout"
)

// Words is what the boot loader left in EFI variables (Boot Loader Interface
// of systemd). All of it is empty on a machine without UEFI, and under a
// direct kernel boot.
type Words struct {
	PartUUID string // of the partition that the loader, or else the UKI, came from
	Stub     string // path of the UKI that runs, with its boot counter: StubImageIdentifier
}

const loaderGUID = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"

// ReadWords reads the variables from efivarfs.
func ReadWords(efivars fs.FS) (Words, error) {
	var w Words
	var stubPart string
	for name, to := range map[string]*string{
		"LoaderDevicePartUUID": &w.PartUUID,
		"StubDevicePartUUID":   &stubPart,
		"StubImageIdentifier":  &w.Stub,
	} {
		b, err := fs.ReadFile(efivars, name+"-"+loaderGUID)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return Words{}, fmt.Errorf("read EFI variable %s: %w", name, err)
		}
		if *to, err = text(b); err != nil {
			return Words{}, fmt.Errorf("read EFI variable %s: %v", name, err)
		}
	}
	if w.PartUUID == "" {
		w.PartUUID = stubPart
	}
	return w, nil
}

// text decodes a variable as efivarfs gives it: four bytes of attributes,
// then UTF-16 with a terminating zero.
func text(b []byte) (string, error) {
	if len(b) < 4 || len(b)%2 != 0 {
		return "", fmt.Errorf("%d bytes are no text", len(b))
	}
	var units []uint16
	for b = b[4:]; len(b) >= 2; b = b[2:] {
		u := binary.LittleEndian.Uint16(b)
		if u == 0 {
			break
		}
		units = append(units, u)
	}
	return string(utf16.Decode(units)), nil
}

// RunningFile is the name below EFI/Linux of the kernel image that runs, as
// it was when it was started; "" if it is not known, or lies elsewhere.
//
// LoaderBootCountPath is no help: it may name another entry than the one that
// runs. After one that could not be started the firmware goes on to the next
// within the same boot.
func (w Words) RunningFile() string {
	dir, file := path.Split(slashed(w.Stub))
	if !strings.EqualFold(strings.TrimSuffix(dir, "/"), layout.ESPUKIDir) {
		return ""
	}
	return file
}

// slashed makes an EFI path one of ours: relative, with forward slashes.
func slashed(efi string) string {
	return strings.TrimPrefix(path.Clean("/"+strings.ReplaceAll(efi, `\`, "/")), "/")
}
