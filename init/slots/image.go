package slots

import (
	"debug/pe"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/waysideos/wayside/image/layout"
)

// Image is what a unified kernel image says of itself. Its signature, where
// the firmware checks one, covers all of it.
type Image struct {
	SortKey string // of the loader's order
	Order   string // version by which the loader orders, the highest first

	Version    string // release version
	Board      string
	Counter    uint64 // release counter, 0 if it names none
	RootHash   string // hex, of the slot it belongs to
	DataBlocks string
	Arch       string // GOARCH
	Signed     bool   // it carries a signature; by whom is not checked here
}

// maxSection bounds the sections that are read, in bytes.
const maxSection = 64 << 10

// ReadImage reads a unified kernel image's own words. An error is why
// systemd-boot, which asks for an .osrel section, would pass over the file, or
// why the stub could not start it.
func ReadImage(r io.ReaderAt) (im Image, err error) {
	f, err := pe.NewFile(r)
	if err != nil {
		return im, fmt.Errorf("is no kernel image: %v", err)
	}
	osrel, err := section(f, ".osrel")
	if err != nil {
		return im, err
	}
	cmdline, err := section(f, ".cmdline")
	if err != nil {
		return im, err
	}
	if f.Section(".linux") == nil {
		return im, errors.New("is no kernel image: it has no section .linux")
	}
	im.Arch = map[uint16]string{pe.IMAGE_FILE_MACHINE_AMD64: "amd64", pe.IMAGE_FILE_MACHINE_ARM64: "arm64"}[f.Machine]
	if h, ok := f.OptionalHeader.(*pe.OptionalHeader64); ok {
		im.Signed = h.DataDirectory[pe.IMAGE_DIRECTORY_ENTRY_SECURITY].Size != 0
	}
	im.readOSRelease(osrel)
	words := map[string]string{}
	for _, w := range strings.Fields(cmdline) {
		key, value, _ := strings.Cut(w, "=")
		words[key] = strings.Trim(value, `"`)
	}
	im.Version, im.Board = words[layout.CmdVersion], words[layout.CmdBoard]
	im.RootHash, im.DataBlocks = words[layout.CmdRootHash], words[layout.CmdDataBlocks]
	im.Counter, _ = strconv.ParseUint(words[layout.CmdCounter], 10, 64)
	return im, nil
}

// readOSRelease picks what systemd-boot orders by
// (bootspec_pick_name_version_sort_key).
func (im *Image) readOSRelease(text string) {
	values := map[string]string{}
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		values[key] = strings.Trim(value, `"'`)
	}
	pick := func(keys ...string) string {
		for _, k := range keys {
			if values[k] != "" {
				return values[k]
			}
		}
		return ""
	}
	im.SortKey = pick("IMAGE_ID", "ID")
	im.Order = pick("IMAGE_VERSION", "VERSION", "VERSION_ID", "BUILD_ID")
}

func section(f *pe.File, name string) (string, error) {
	s := f.Section(name)
	if s == nil {
		return "", fmt.Errorf("is no kernel image: it has no section %s", name)
	}
	if s.Size > maxSection {
		return "", fmt.Errorf("section %s has %d bytes, the most is %d", name, s.Size, maxSection)
	}
	data, err := s.Data()
	if err != nil {
		return "", fmt.Errorf("read section %s: %v", name, err)
	}
	return strings.TrimRight(string(data[:min(len(data), int(s.VirtualSize))]), "\x00\n "), nil
}
