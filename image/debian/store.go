package debian

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
)

// Store is the cache of fetched packages, addressed by the sha256 of the .deb
// and shared by any number of processes:
//
//	debs/<sha256>.deb    as fetched; <sha256>.part while it comes, and resumed
//	trees-1/<sha256>/    extracted, renamed into place when whole
//	locks/<sha256>       held (flock) while one of the two is made or checked
//	bad/                 what was found damaged, the last of each
//
// The number in trees-1 rises with the format of the index.
type Store struct {
	dir      string
	lock     Lock
	archive  func() (*Archive, error)
	progress func(p LockedPackage, done int64)
	log      *slog.Logger

	mu    sync.Mutex
	trees map[string]*tree // checked in this process, by sha256

	online chan struct{} // held by whoever uses what follows
	source *Archive
	known  map[string][]Entry // by architecture
}

// StoreConfig says where the Store lies and where it fetches from.
type StoreConfig struct {
	Dir string // made if need be
	// Lock names the packages that are looked up together: the first that is
	// not in the store pays for reading the indexes, the others do not.
	Lock Lock
	// Archive is called when something must be fetched, at most once: a warm
	// store needs no mirror at all. nil: nothing is ever fetched.
	Archive func() (*Archive, error)
	// Progress is told bytes done of p.Size while a package is fetched, from
	// the goroutine that fetches; may be nil.
	Progress func(p LockedPackage, done int64)
	Log      *slog.Logger // nil: silent
}

// OpenStore makes the cache's folders.
func OpenStore(c StoreConfig) (*Store, error) {
	dir, err := filepath.Abs(c.Dir) // Package.Path is handed to other programs
	if err != nil {
		return nil, fmt.Errorf("open package cache: %v", err)
	}
	for _, sub := range []string{"debs", "trees-1", "locks", "bad"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return nil, fmt.Errorf("open package cache: %v", err)
		}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Archive == nil {
		c.Archive = func() (*Archive, error) { return nil, errors.New("not in the cache, and no archive to fetch it from") }
	}
	if c.Progress == nil {
		c.Progress = func(LockedPackage, int64) {}
	}
	return &Store{dir: dir, lock: c.Lock, archive: c.Archive, progress: c.Progress, log: c.Log,
		trees: map[string]*tree{}, online: make(chan struct{}, 1), known: map[string][]Entry{}}, nil
}

// Package returns a locked package, extracted, and fetches it if need be. What
// is in the cache is checked by hash once in a Store's life, set aside when
// damaged and made again. Errors of note: *GoneError, *MismatchError,
// *ExpiredError, *NoMirrorError, ErrSignature.
func (s *Store) Package(ctx context.Context, p LockedPackage) (Package, error) {
	if err := p.validate(p.Arch, p.Request); err != nil {
		return Package{}, fmt.Errorf("package %s: %w", p.Name, err)
	}
	if t := s.checked(p.SHA256); t != nil {
		return Package{LockedPackage: p, tree: t}, nil
	}
	unlock, err := lockFile(ctx, filepath.Join(s.dir, "locks", p.SHA256))
	if err != nil {
		return Package{}, fmt.Errorf("lock package %s in the cache: %w", p.Name, err)
	}
	defer unlock()
	t := s.checked(p.SHA256) // another goroutine may have had the lock
	if t == nil {
		if t, err = s.openTree(ctx, p); err != nil {
			return Package{}, err
		}
		s.mu.Lock()
		s.trees[p.SHA256] = t
		s.mu.Unlock()
	}
	return Package{LockedPackage: p, tree: t}, nil
}

func (s *Store) checked(sha256 string) *tree {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.trees[sha256]
}

// openTree returns the extracted package from the cache if it is there and
// sound, and makes it if not.
func (s *Store) openTree(ctx context.Context, p LockedPackage) (*tree, error) {
	dir := filepath.Join(s.dir, "trees-1", p.SHA256)
	t, err := readTree(dir)
	if err == nil {
		return t, nil
	}
	if _, statErr := os.Lstat(dir); statErr == nil {
		if err := s.setAside(p, "tree", dir, err); err != nil {
			return nil, err
		}
	}
	if err := s.makeTree(ctx, p, dir); err != nil {
		return nil, err
	}
	x, err := readIndex(dir)
	if err != nil {
		return nil, err
	}
	return &tree{dir: dir, index: x}, nil
}

func readTree(dir string) (*tree, error) {
	x, err := readIndex(dir)
	if err != nil {
		return nil, err
	}
	return &tree{dir: dir, index: x}, x.verify(dir)
}

// makeTree extracts the .deb beside dir and renames it into place, so that dir
// is whole or not there.
func (s *Store) makeTree(ctx context.Context, p LockedPackage, dir string) error {
	deb, err := s.openDeb(ctx, p)
	if err != nil {
		return err
	}
	defer deb.Close()
	work := dir + ".tmp" // ours alone: the lock is held
	if err := os.RemoveAll(work); err != nil {
		return fmt.Errorf("clear an interrupted extraction: %v", err)
	}
	if err := os.Mkdir(work, 0o755); err != nil {
		return fmt.Errorf("extract package %s: %v", p.Name, err)
	}
	if err := extract(deb, work); err != nil {
		os.RemoveAll(work)
		return fmt.Errorf("extract package %s %s: %w", p.Name, p.Version, err)
	}
	if err := os.Rename(work, dir); err != nil {
		return fmt.Errorf("extract package %s: %v", p.Name, err)
	}
	return nil
}

// openDeb opens the verified .deb, from the cache or the archive.
func (s *Store) openDeb(ctx context.Context, p LockedPackage) (*os.File, error) {
	name := filepath.Join(s.dir, "debs", p.SHA256+".deb")
	f, err := openVerified(name, p)
	if err == nil {
		return f, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		if err := s.setAside(p, "deb", name, err); err != nil {
			return nil, err
		}
	}
	if err := s.fetch(ctx, p, name); err != nil {
		return nil, err
	}
	return os.Open(name)
}

// fetch brings the .deb to name, after the archive has been asked whether it
// still stands by it.
func (s *Store) fetch(ctx context.Context, p LockedPackage, name string) error {
	a, e, err := s.find(ctx, p)
	if err != nil {
		return err
	}
	link := a.mirror.base(e.Archive) + "/" + e.Filename
	part := name[:len(name)-len(".deb")] + ".part"
	for range 2 { // what an earlier run left may be the wrong half
		err = s.fetchPart(ctx, a, link, part, p)
		var wrong *ContentError
		if !errors.As(err, &wrong) {
			break
		}
		os.Remove(part)
	}
	if errors.Is(err, errNotFound) {
		return &GoneError{Package: p.Name, Version: p.Version, Arch: p.Arch, Where: redacted(link) + " answers 404"}
	}
	if err != nil {
		return fmt.Errorf("fetch package %s %s: %w", p.Name, p.Version, err)
	}
	if err := os.Rename(part, name); err != nil {
		return fmt.Errorf("fetch package %s: %v", p.Name, err)
	}
	return nil
}

func (s *Store) fetchPart(ctx context.Context, a *Archive, link, part string, p LockedPackage) error {
	f, err := os.OpenFile(part, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	err = a.download(ctx, link, file{f}, p.Size, p.Size, func(done int64) { s.progress(p, done) })
	if err != nil {
		return err
	}
	return verify(f, p)
}

// find asks the indexes for a package. They are read once for every package of
// the lock.
func (s *Store) find(ctx context.Context, p LockedPackage) (*Archive, Entry, error) {
	select {
	case s.online <- struct{}{}:
		defer func() { <-s.online }()
	case <-ctx.Done():
		return nil, Entry{}, context.Cause(ctx)
	}
	if s.source == nil {
		a, err := s.archive()
		if err != nil {
			return nil, Entry{}, fmt.Errorf("fetch package %s: %w", p.Name, err)
		}
		s.source = a
	}
	entries, err := s.entries(ctx, p)
	if err != nil {
		return nil, Entry{}, err
	}
	e, err := Find(entries, p)
	return s.source, e, err
}

// entries returns what the indexes say of a package; those of the lock are read
// in one go.
func (s *Store) entries(ctx context.Context, p LockedPackage) ([]Entry, error) {
	var names []string
	for _, locked := range s.lock.Packages[p.Arch] {
		names = append(names, locked.Name)
	}
	inLock := slices.Contains(names, p.Name)
	if entries, read := s.known[p.Arch]; read && inLock {
		return entries, nil
	}
	if !inLock {
		names = append(names, p.Name)
	}
	entries, err := s.source.Entries(ctx, p.Arch, func(name string) bool { return slices.Contains(names, name) })
	if err != nil {
		return nil, err
	}
	s.known[p.Arch] = entries
	return entries, nil
}

// setAside moves what is damaged out of the way and keeps it to be looked at.
func (s *Store) setAside(p LockedPackage, what, name string, why error) error {
	s.log.Warn("a damaged cache entry is set aside and made again", "package", p.Name, "version", p.Version, "what", what, "why", why)
	aside := filepath.Join(s.dir, "bad", p.SHA256+"."+what)
	if err := errors.Join(os.RemoveAll(aside), os.Rename(name, aside)); err != nil {
		return fmt.Errorf("set a damaged cache entry aside: %v", err)
	}
	return nil
}

func openVerified(name string, p LockedPackage) (*os.File, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	if err := verify(f, p); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// verify compares a file with the lock: size first, which is cheap. The error
// is a *ContentError when it differs.
func verify(f *os.File, p LockedPackage) error {
	what := fmt.Sprintf("package %s %s", p.Name, p.Version)
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Size() != p.Size {
		return &ContentError{What: what, Want: fmt.Sprintf("%d bytes", p.Size), Got: fmt.Sprintf("%d bytes", info.Size())}
	}
	got, err := hashOf(io.NewSectionReader(f, 0, p.Size), make([]byte, 256<<10))
	if err != nil {
		return err
	}
	if got != p.SHA256 {
		return &ContentError{What: what, Want: "sha256 " + p.SHA256, Got: got}
	}
	return nil
}

func hashOf(r io.Reader, buf []byte) (string, error) {
	sum := sha256.New()
	if _, err := io.CopyBuffer(sum, onlyReader{r}, buf); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}
