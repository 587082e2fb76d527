package boards

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"

	"github.com/waysideos/wayside/image/layout"
)

//go:embed */board.yaml */config.txt packages.lock.json
var files embed.FS

// Lock is the committed lock file of the Debian packages that boards name.
// Its reader is image/debian.
func Lock() ([]byte, error) { return files.ReadFile("packages.lock.json") }

// LockFile is where the lock lies in a source tree, relative to its root.
const LockFile = "boards/packages.lock.json"

// All returns every board, sorted by slug.
func All() ([]Board, error) { return load(files) }

// Get returns the board of that slug; - and _ are the same here, because
// people type either. The error of an unknown one names the boards there are.
func Get(slug string) (Board, error) {
	all, err := All()
	if err != nil {
		return Board{}, err
	}
	var slugs []string
	for _, b := range all {
		if plain.Replace(b.Slug) == plain.Replace(slug) {
			return b, nil
		}
		slugs = append(slugs, b.Slug)
	}
	return Board{}, fmt.Errorf("no board %q: the boards are %s", slug, strings.Join(slugs, ", "))
}

var plain = strings.NewReplacer("_", "-")

func load(fsys fs.FS) ([]Board, error) {
	names, err := fs.Glob(fsys, "*/board.yaml")
	if err != nil {
		return nil, err
	}
	var all []Board
	for _, name := range names {
		data, err := fs.ReadFile(fsys, name)
		if err != nil {
			return nil, err
		}
		b, err := parse(data)
		if err != nil {
			return nil, fmt.Errorf("board %s: %w", name, err)
		}
		if dir := path.Dir(name); b.Slug != dir {
			return nil, fmt.Errorf("board %s: slug %q is not its folder's name %q", name, b.Slug, dir)
		}
		all = append(all, b)
	}
	slices.SortFunc(all, func(a, b Board) int { return strings.Compare(a.Slug, b.Slug) })
	return all, nil
}

func parse(data []byte) (Board, error) {
	var b Board
	if err := yaml.NewDecoder(bytes.NewReader(data), yaml.Strict()).Decode(&b); err != nil {
		return Board{}, errors.New(yaml.FormatError(err, false, true))
	}
	b.Modules.Initramfs = slices.Concat(always, b.Modules.Initramfs, b.Watchdogs)
	b.Modules.Root = append(slices.Clone(alwaysRoot), b.Modules.Root...)
	b.Modules.Load = append(slices.Clone(always), b.Modules.Load...)
	return b, b.Validate()
}

// always names the modules that the boot sequence itself needs on every
// board; no device asks for them by modalias. vfat wants its default code
// pages, or the boot partition does not mount; erofs and ext4 find no checksum
// unless crc32c comes before them.
var always = []string{"crc32c_generic", "dm_verity", "erofs", "efivarfs", "vfat", "nls_ascii", "nls_cp437", "ext4"}

// alwaysRoot names the modules that every root has: each release must open
// the encrypted partitions that an earlier one has made.
var alwaysRoot = []string{"dm_crypt", "xts"}

// Validate reports every field that is missing or cannot be right.
func (b Board) Validate() error {
	var errs []error
	need := func(field, value string) {
		if value == "" {
			errs = append(errs, fmt.Errorf("%s is missing", field))
		}
	}
	need("slug", b.Slug)
	need("description", b.Description)
	need("packages.kernel", b.Packages.Kernel)
	need("packages.loader", b.Packages.Loader)
	if _, err := layout.Partitions(b.Arch); err != nil {
		errs = append(errs, fmt.Errorf("arch: %w", err))
	}
	if b.Boot != layout.BootSystemd && b.Boot != layout.BootUBoot {
		errs = append(errs, fmt.Errorf("boot: %q is no boot back end; there are %s and %s", b.Boot, layout.BootSystemd, layout.BootUBoot))
	}
	for _, f := range b.BootFiles {
		if (f.Package == "") != (f.From == "") || len(f.Files) == 0 {
			errs = append(errs, fmt.Errorf("boot_files: %+v: want files, and package and from both or neither", f))
		}
	}
	for _, pattern := range slices.Concat(b.Firmware.Files, b.Firmware.Without) {
		if _, err := path.Match(pattern, ""); err != nil || len(b.Firmware.Packages) == 0 {
			errs = append(errs, fmt.Errorf("firmware: %q: want a pattern of files in firmware.packages", pattern))
		}
	}
	for _, name := range b.Programs.Files {
		if !fs.ValidPath(name) || len(b.Programs.Packages) == 0 {
			errs = append(errs, fmt.Errorf("programs.files: %q: want a path without leading slash, of a file in programs.packages", name))
		}
	}
	for _, name := range b.Watchdogs {
		if name == "" || strings.ContainsAny(name, "/:, \t\"=") {
			errs = append(errs, fmt.Errorf("watchdogs: %q: want the name of a module", name))
		}
	}
	for _, word := range b.Cmdline {
		if strings.ContainsAny(word, " \t\n\"") {
			errs = append(errs, fmt.Errorf("cmdline: %q: one argument an entry, without blanks or quotes", word))
		}
		if strings.HasPrefix(word, "wayside.") {
			errs = append(errs, fmt.Errorf("cmdline: %q: wayside.* is written by the build", word))
		}
	}
	if q := b.QEMU; q != nil {
		fields := []struct{ name, value string }{{"system", q.System}, {"machine", q.Machine}}
		switch q.Plays {
		case "":
			fields = append(fields, []struct{ name, value string }{
				{"cpu", q.CPU}, {"firmware", q.Firmware}, {"code", q.Code}, {"vars", q.Vars}, {"disk", q.Disk}, {"nic", q.NIC},
			}...)
		case PlaysPi:
		default:
			errs = append(errs, fmt.Errorf("qemu.plays: %q: there is %s", q.Plays, PlaysPi))
		}
		for _, f := range fields {
			need("qemu."+f.name, f.value)
		}
		if q.MemoryMiB <= 0 || q.SMP <= 0 {
			errs = append(errs, errors.New("qemu.memory_mib and qemu.smp must be positive"))
		}
	}
	return errors.Join(errs...)
}
