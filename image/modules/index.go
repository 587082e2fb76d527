package modules

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"path"
	"runtime"
	"slices"
	"strings"

	"github.com/ulikunitz/xz"
	"golang.org/x/sync/errgroup"
)

// Index is what there is to know about the modules of one kernel.
type Index struct {
	Release string   `json:"release"` // uname -r
	Modules []Module `json:"modules"` // sorted by path
	// Builtin lists the paths of modules that are part of the kernel itself.
	Builtin []string `json:"builtin"`
	// BuiltinAliases are the aliases of those, as lines of modules.alias.
	BuiltinAliases []string `json:"builtin_aliases"`
}

// dir is the module folder in an unpacked kernel package.
func dir(release string) string { return "usr/lib/modules/" + release }

// Releases lists the kernel releases that an unpacked kernel package holds.
func Releases(pkg fs.FS) ([]string, error) {
	entries, err := fs.ReadDir(pkg, "usr/lib/modules")
	if err != nil {
		return nil, fmt.Errorf("find kernel release: %w", err)
	}
	var all []string
	for _, e := range entries {
		if e.IsDir() {
			all = append(all, e.Name())
		}
	}
	return all, nil
}

// Read builds the index from an unpacked kernel package: every module is
// decompressed once, on all processors. It takes seconds; see Load.
func Read(ctx context.Context, pkg fs.FS, release string) (*Index, error) {
	sources, err := list(pkg, release)
	if err != nil {
		return nil, err
	}
	ix := &Index{Release: release, Modules: make([]Module, len(sources))}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i, source := range sources {
		g.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			m, err := readModule(pkg, release, source)
			ix.Modules[i] = m
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	slices.SortFunc(ix.Modules, func(a, b Module) int { return strings.Compare(a.Path, b.Path) })
	return ix, ix.readBuiltin(pkg)
}

// list returns the module files below the module folder, sorted.
func list(pkg fs.FS, release string) ([]string, error) {
	root := dir(release)
	var sources []string
	err := fs.WalkDir(pkg, path.Join(root, "kernel"), func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && (strings.HasSuffix(p, ".ko") || strings.HasSuffix(p, ".ko.xz")) {
			sources = append(sources, strings.TrimPrefix(p, root+"/"))
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list kernel modules: %w", err)
	}
	if len(sources) == 0 {
		return nil, fmt.Errorf("list kernel modules: no .ko or .ko.xz below %s", root)
	}
	return sources, nil
}

func readModule(pkg fs.FS, release, source string) (Module, error) {
	ko, err := decompress(pkg, release, source)
	if err != nil {
		return Module{}, err
	}
	sum := sha256.Sum256(ko)
	m := Module{
		Path: strings.TrimSuffix(source, ".xz"), Source: source,
		SHA256: hex.EncodeToString(sum[:]), Size: int64(len(ko)),
	}
	return m, ParseModinfo(ko, &m)
}

// decompress returns a module as the kernel loads it.
func decompress(pkg fs.FS, release, source string) ([]byte, error) {
	f, err := pkg.Open(path.Join(dir(release), source))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var r io.Reader = f
	if strings.HasSuffix(source, ".xz") {
		// xz reads single bytes: without the buffer this takes ten times as long.
		if r, err = xz.NewReader(bufio.NewReaderSize(f, 64<<10)); err != nil {
			return nil, fmt.Errorf("decompress %s: %v", source, err)
		}
	}
	ko, err := io.ReadAll(io.LimitReader(r, maxModule+1))
	if err != nil {
		return nil, fmt.Errorf("decompress %s: %v", source, err)
	}
	if len(ko) > maxModule {
		return nil, fmt.Errorf("decompress %s: larger than %d bytes", source, maxModule)
	}
	return ko, nil
}

// readBuiltin reads modules.builtin (paths) and modules.builtin.modinfo
// (NUL-separated name.key=value). A kernel may come without either.
func (ix *Index) readBuiltin(pkg fs.FS) error {
	paths, err := readOptional(pkg, path.Join(dir(ix.Release), "modules.builtin"))
	if err != nil {
		return err
	}
	ix.Builtin = strings.Fields(string(paths))
	slices.Sort(ix.Builtin)
	info, err := readOptional(pkg, path.Join(dir(ix.Release), "modules.builtin.modinfo"))
	if err != nil {
		return err
	}
	for _, word := range bytes.Split(info, []byte{0}) {
		key, value, _ := strings.Cut(string(word), "=")
		if name, field, ok := strings.Cut(key, "."); ok && field == "alias" {
			ix.BuiltinAliases = append(ix.BuiltinAliases, aliasLine(value, normal(name)))
		}
	}
	slices.Sort(ix.BuiltinAliases)
	return nil
}

func readOptional(pkg fs.FS, name string) ([]byte, error) {
	data, err := fs.ReadFile(pkg, name)
	if err != nil && !isNotExist(err) {
		return nil, err
	}
	return data, nil
}
