package modules

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"

	"golang.org/x/sync/errgroup"
)

// indexFormat changes whenever an old cached index must not be read.
const indexFormat = "1"

func isNotExist(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// Load returns the index of a kernel from cacheDir, or reads the kernel and
// leaves the index there. The cache is addressed by the modules' compressed
// content, so that it can never be stale.
func Load(ctx context.Context, pkg fs.FS, release, cacheDir string) (*Index, error) {
	key, err := fingerprint(ctx, pkg, release)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(cacheDir, "modules-"+key[:32]+".json")
	if ix, err := readIndex(file, release); err == nil {
		return ix, nil
	}
	ix, err := Read(ctx, pkg, release)
	if err != nil {
		return nil, err
	}
	data, err := json.Marshal(ix)
	if err != nil {
		return nil, fmt.Errorf("cache module index: %v", err)
	}
	return ix, writeAtomic(file, data)
}

// readIndex fails on whatever is wrong with a cached index; it is then made
// again.
func readIndex(file, release string) (*Index, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	ix := &Index{}
	if err := json.Unmarshal(data, ix); err != nil {
		return nil, err
	}
	if ix.Release != release {
		return nil, fmt.Errorf("index of kernel %s, want %s", ix.Release, release)
	}
	return ix, nil
}

// fingerprint hashes every module file as it lies in the package, and the
// lists of what is built in.
func fingerprint(ctx context.Context, pkg fs.FS, release string) (string, error) {
	names, err := list(pkg, release)
	if err != nil {
		return "", err
	}
	for _, name := range []string{"modules.builtin", "modules.builtin.modinfo"} {
		if _, err := fs.Stat(pkg, path.Join(dir(release), name)); err == nil {
			names = append(names, name)
		}
	}
	sums := make([][]byte, len(names))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i, name := range names {
		g.Go(func() (err error) {
			if err := ctx.Err(); err != nil {
				return err
			}
			sums[i], err = hashFile(pkg, path.Join(dir(release), name))
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return "", err
	}
	h := sha256.New()
	fmt.Fprintf(h, "wayside module index %s\n%s\n", indexFormat, release)
	for i, name := range names {
		fmt.Fprintf(h, "%x %s\n", sums[i], name)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func hashFile(fsys fs.FS, name string) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return h.Sum(nil), nil
}

// Extract makes sure that cacheDir holds each module decompressed, and
// returns their paths in the order of mods. A cached file that is not what
// the index says is made again.
func Extract(ctx context.Context, pkg fs.FS, release string, mods []Module, cacheDir string) ([]string, error) {
	paths := make([]string, len(mods))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i, m := range mods {
		paths[i] = filepath.Join(cacheDir, "modules", m.SHA256[:2], m.SHA256+".ko")
		g.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			return extract(pkg, release, m, paths[i])
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return paths, nil
}

func extract(pkg fs.FS, release string, m Module, file string) error {
	sum, err := hashFile(os.DirFS(filepath.Dir(file)), filepath.Base(file))
	if err == nil && hex.EncodeToString(sum) == m.SHA256 {
		return nil
	}
	ko, err := decompress(pkg, release, m.Source)
	if err != nil {
		return err
	}
	if sum := sha256.Sum256(ko); hex.EncodeToString(sum[:]) != m.SHA256 {
		return fmt.Errorf("decompress %s: content is not what the module index says", m.Source)
	}
	return writeAtomic(file, ko)
}

// writeAtomic lets a reader find the whole file or none.
func writeAtomic(file string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return fmt.Errorf("write cache: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(file), ".new-*")
	if err != nil {
		return fmt.Errorf("write cache: %w", err)
	}
	defer os.Remove(f.Name()) // does nothing after the rename
	_, err = f.Write(data)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		return fmt.Errorf("write cache: %w", err)
	}
	return nil
}
