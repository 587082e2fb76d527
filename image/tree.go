package image

import (
	"bytes"
	"cmp"
	"debug/buildinfo"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/waysideos/wayside/image/layout"
	"github.com/waysideos/wayside/image/modules"
	"github.com/waysideos/wayside/image/release"
	"github.com/waysideos/wayside/image/rootfs"
)

// PackageList is what an image is made of, as layout.RootPackages holds it.
type PackageList struct {
	Debian []Package  `json:"debian"`
	Go     []GoModule `json:"go"`
	// Toolchain is the Go release that built init and services.
	Toolchain string `json:"toolchain,omitempty"`
}

// GoModule is one module linked into init or the services.
type GoModule struct {
	Path    string `json:"path"`
	Version string `json:"version"`
	Sum     string `json:"sum,omitempty"`
}

// baseTree is the root without overlays, modules and release.json.
func baseTree(in *Input, p *Plan) ([]rootfs.Entry, error) {
	list, err := packageList(in)
	if err != nil {
		return nil, err
	}
	if p.components, err = list.components(); err != nil {
		return nil, err
	}
	packages, err := json.MarshalIndent(list, "", "  ")
	if err != nil {
		return nil, err
	}
	entries := []rootfs.Entry{
		rootfs.Dir("/dev", 0o755), rootfs.Dir("/proc", 0o555), rootfs.Dir("/sys", 0o555),
		rootfs.Dir("/run", 0o755), rootfs.Dir("/tmp", 0o755),
		rootfs.Dir(layout.MountESP, 0o700), rootfs.Dir(layout.MountState, 0o700), rootfs.Dir(layout.MountData, 0o755),
		rootfs.Bytes("/usr/lib/os-release", 0o644, osRelease(p.Release)),
		rootfs.Symlink("/etc/os-release", "../usr/lib/os-release"),
		rootfs.Bytes(layout.RootPackages, 0o644, append(packages, '\n')),
		rootfs.Bytes(layout.RootModulesLoad, 0o644, lines(p.Load)),
	}
	boot, err := p.bootTree()
	if err != nil {
		return nil, err
	}
	entries = append(entries, boot...)
	if in.UpdateRoot != nil {
		entries = append(entries, rootfs.Bytes(layout.RootTUF, 0o644, in.UpdateRoot))
	}
	for _, program := range []struct{ name, host string }{{layout.RootInit, in.Init}, {layout.RootServices, in.Services}} {
		e, err := rootfs.HostFile(program.name, 0o755, program.host)
		if err != nil {
			return nil, err
		}
		entries = append(entries, e)
	}
	tables, err := moduleTables(path.Join(layout.RootModules, p.Release.Kernel), p.index, p.modules)
	return append(entries, tables...), err
}

// initramfsTree is the kernel's first file system: init, the modules that
// reach the root, and nothing else.
func initramfsTree(in *Input, p *Plan, files map[string]string) ([]rootfs.Entry, error) {
	init, err := rootfs.HostFile("/init", 0o755, in.Init)
	if err != nil {
		return nil, err
	}
	entries := []rootfs.Entry{
		init,
		rootfs.Dir("/dev", 0o755), rootfs.Dir("/proc", 0o555), rootfs.Dir("/sys", 0o555),
		rootfs.Dir("/run", 0o755), rootfs.Dir("/sysroot", 0o755),
		// The kernel opens it for init's first three files, before any mount.
		rootfs.CharDevice("/dev/console", 0o600, 5, 1),
		// Without the version: a release that changes nothing else leaves the
		// initramfs as it is.
		rootfs.Bytes("/etc/initrd-release", 0o644, []byte("NAME=\"Wayside\"\nID=wayside\n")),
		rootfs.Bytes(layout.RootModulesLoad, 0o644, lines(p.Load)),
		rootfs.Symlink("/lib", "usr/lib"),
	}
	dir := path.Join(layout.RootModules, p.Release.Kernel)
	tables, err := moduleTables(dir, p.index, p.initramfs)
	if err != nil {
		return nil, err
	}
	mods, err := moduleFiles(dir, p.initramfs, files)
	return append(append(entries, tables...), mods...), err
}

// moduleTables are the files that depmod makes.
func moduleTables(dir string, index *modules.Index, mods []modules.Module) ([]rootfs.Entry, error) {
	var entries []rootfs.Entry
	for _, table := range []struct {
		name  string
		write func(io.Writer) error
	}{
		{"modules.dep", func(w io.Writer) error { return modules.WriteDep(w, mods) }},
		{"modules.alias", func(w io.Writer) error { return modules.WriteAlias(w, mods) }},
		{"modules.softdep", func(w io.Writer) error { return modules.WriteSoftdep(w, mods) }},
		{"modules.builtin", func(w io.Writer) error { return modules.WriteLines(w, index.Builtin) }},
		{"modules.builtin.alias", func(w io.Writer) error { return modules.WriteLines(w, index.BuiltinAliases) }},
	} {
		var buf bytes.Buffer
		if err := table.write(&buf); err != nil {
			return nil, err
		}
		entries = append(entries, rootfs.Bytes(path.Join(dir, table.name), 0o644, buf.Bytes()))
	}
	return entries, nil
}

// moduleFiles puts modules in place; files holds where each was extracted to.
func moduleFiles(dir string, mods []modules.Module, files map[string]string) ([]rootfs.Entry, error) {
	var entries []rootfs.Entry
	for _, m := range mods {
		e, err := rootfs.HostFile(path.Join(dir, m.Path), 0o644, files[m.Path])
		if err != nil {
			return nil, err
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// osRelease is the os-release file; boot loaders take name and version of a
// UKI from it (os-release(5)).
func osRelease(r release.Release) []byte {
	return []byte(strings.Join([]string{
		`NAME="Wayside"`,
		`ID=wayside`,
		`PRETTY_NAME="Wayside ` + r.Version + `"`,
		`VERSION_ID="` + r.Version + `"`,
		`VARIANT_ID="` + r.Board + `"`,
		// systemd-boot starts the highest of these, before it looks at
		// VERSION_ID (Boot Loader Specification, "Sorting").
		`IMAGE_VERSION="` + strconv.FormatUint(r.Counter, 10) + `"`,
		``,
	}, "\n"))
}

// packageList reads the Go modules out of our own binaries: what is linked,
// not what go.mod asks for.
func packageList(in *Input) (PackageList, error) {
	list := PackageList{Debian: in.Packages}
	seen := map[GoModule]bool{}
	for _, binary := range []string{in.Init, in.Services} {
		info, err := buildinfo.ReadFile(binary)
		if err != nil {
			return list, fmt.Errorf("read Go modules of %s: %v", binary, err)
		}
		list.Toolchain = info.GoVersion
		for _, dep := range info.Deps {
			if dep.Replace != nil {
				dep = dep.Replace
			}
			m := GoModule{Path: dep.Path, Version: dep.Version, Sum: dep.Sum}
			if !seen[m] {
				seen[m] = true
				list.Go = append(list.Go, m)
			}
		}
	}
	slices.SortFunc(list.Go, func(a, b GoModule) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Version, b.Version))
	})
	return list, nil
}

func lines(words []string) []byte {
	var buf bytes.Buffer
	for _, w := range words {
		buf.WriteString(w + "\n")
	}
	return buf.Bytes()
}
