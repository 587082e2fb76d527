package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/waysideos/wayside/image"
	"github.com/waysideos/wayside/image/flash"
	"github.com/waysideos/wayside/image/layout"
	"github.com/waysideos/wayside/image/release"
	"github.com/waysideos/wayside/services/site"
)

// flashSource is an image as it will be on the disk.
type flashSource struct {
	file    *os.File
	size    int64
	used    []flash.Range
	release release.Release
	owner   []byte            // its update root; nil if it has none
	boot    map[string][]byte // what of files for us is on its boot partition
	added   []string
	claim   string // name of the box whose claim was added
	temp    bool   // the file is ours, and goes away
}

func (s *flashSource) Close() error {
	err := s.file.Close()
	if s.temp {
		err = errors.Join(err, os.Remove(s.file.Name()))
	}
	return err
}

// stale is what is to be erased on a disk of size bytes.
func (s *flashSource) stale(size int64) []flash.Range {
	parts, err := layout.Partitions(s.release.Arch)
	if err != nil { // an image was opened: its architecture is known
		return nil
	}
	return flash.Stale(parts, s.size-layout.MiB, size)
}

// open unpacks an image where it must, checks it, and only then puts files on
// its boot partition: on a copy.
func (o *flashOptions) open(ctx context.Context, img string, p *progress) (s *flashSource, err error) {
	files, err := o.bootFiles()
	if err != nil {
		return nil, err
	}
	s, err = openImage(ctx, img, o.check(img))
	if err != nil {
		return nil, err
	}
	opened := s
	defer func() {
		if err != nil {
			opened.Close()
		}
	}()
	how := "signatures checked"
	if o.unverified {
		how = "NOT VERIFIED"
	}
	p.done("image", "%s %s, %s", s.release.Board, s.release.Version, how)
	if o.claim != "" {
		if err := o.addClaim(s, files, p); err != nil {
			return nil, err
		}
	}
	if len(files) > 0 {
		if err := s.own(ctx); err != nil {
			return nil, err
		}
	}
	for _, name := range slices.Sorted(mapKeys(files)) {
		if err := image.PutFile(s.file.Name(), name, files[name]); err != nil {
			return nil, err
		}
		s.added = append(s.added, name)
	}
	s.used, err = image.Used(s.file, s.size)
	return s, err
}

func mapKeys(m map[string][]byte) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// check is how an image is checked: first what was downloaded, then what is
// in it.
func (o *flashOptions) check(img string) imageCheck {
	if o.unverified {
		return imageCheck{before: func() error { return nil }, after: func(*os.File, int64) error { return nil }}
	}
	certs, err := trusted(o.cert, o.keys, true)
	return imageCheck{
		before: func() error {
			if err != nil {
				return fmt.Errorf("%w, or --unverified", err)
			}
			if err := image.CheckSums(img, certs...); !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			return nil // none beside it
		},
		after: func(f *os.File, size int64) error { return image.Verify(f, size, certs...) },
	}
}

type imageCheck struct {
	before func() error
	after  func(f *os.File, size int64) error
}

// openImage opens NAME.img, or unpacks NAME.img.zst into a file of its own.
func openImage(ctx context.Context, name string, check imageCheck) (s *flashSource, err error) {
	if err := check.before(); err != nil {
		return nil, err
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("open image: %w", err)
	}
	s = &flashSource{file: f}
	if strings.HasSuffix(name, image.PackedSuffix) {
		if s, err = unpack(ctx, f); err != nil {
			return nil, errors.Join(fmt.Errorf("unpack %s: %w", name, err), f.Close())
		}
		f.Close()
	}
	opened := s
	defer func() {
		if err != nil {
			opened.Close()
		}
	}()
	if s.size, err = imageSize(s.file); err != nil {
		return nil, fmt.Errorf("%s: %v", name, err)
	}
	if err := check.after(s.file, s.size); err != nil {
		return nil, fmt.Errorf("%s is refused: %w", name, err)
	}
	c, err := image.Open(s.file, s.size)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	s.release, s.owner, s.boot = c.Release, c.UpdateRoot, c.Owners
	return s, nil
}

// unpack writes what a compressed image holds to a file that takes no room
// for zeros.
func unpack(ctx context.Context, packed io.Reader) (*flashSource, error) {
	dec, err := zstd.NewReader(packed, zstd.WithDecoderMaxWindow(512<<20))
	if err != nil {
		return nil, err
	}
	defer dec.Close()
	return tempImage(ctx, dec)
}

// maxImage bounds what a compressed file may unpack to, in bytes.
const maxImage = 64 << 30

func tempImage(ctx context.Context, r io.Reader) (s *flashSource, err error) {
	f, err := os.CreateTemp("", "wayside-image-*.img")
	if err != nil {
		return nil, err
	}
	s = &flashSource{file: f, temp: true}
	opened := s
	defer func() {
		if err != nil {
			opened.Close()
		}
	}()
	buf, zero := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		n, err := io.ReadFull(r, buf)
		if string(buf[:n]) != string(zero[:n]) {
			if _, err := f.WriteAt(buf[:n], s.size); err != nil {
				return nil, err
			}
		}
		if s.size += int64(n); s.size > maxImage {
			return nil, fmt.Errorf("it holds more than %s", mib(maxImage))
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return s, f.Truncate(s.size)
		}
		if err != nil {
			return nil, err
		}
	}
}

// own makes the file one that may be changed.
func (s *flashSource) own(ctx context.Context) error {
	if s.temp {
		return nil
	}
	c, err := tempImage(ctx, io.NewSectionReader(s.file, 0, s.size))
	if err != nil {
		return fmt.Errorf("copy the image: %w", err)
	}
	s.file.Close()
	s.file, s.temp = c.file, true
	return nil
}

// bootFiles are the files for the boot partition, by their paths there.
func (o *flashOptions) bootFiles() (map[string][]byte, error) {
	files := map[string][]byte{}
	if o.site != "" {
		_, text, err := loadSite(o.site)
		if err != nil {
			return nil, err
		}
		files[layout.ESPSite] = text
	}
	if o.install != "" {
		text, err := os.ReadFile(o.install)
		if err != nil {
			return nil, fmt.Errorf("read install file: %w", err)
		}
		if _, err := site.ParseInstall(o.install, text); err != nil {
			return nil, err
		}
		files[layout.ESPInstall] = text
	}
	if o.secrets == "" {
		return files, nil
	}
	entries, err := os.ReadDir(o.secrets)
	if err != nil {
		return nil, fmt.Errorf("read secrets: %w", err)
	}
	n := 0
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		data, err := os.ReadFile(filepath.Join(o.secrets, e.Name()))
		if err != nil {
			return nil, fmt.Errorf("read secrets: %w", err)
		}
		if n++; n > site.MaxSecrets || len(data) > site.MaxSecretSize || len(data) == 0 {
			return nil, fmt.Errorf("secret %s: a box takes %d files of 1 to %d bytes", e.Name(), site.MaxSecrets, site.MaxSecretSize)
		}
		files[path.Join(layout.ESPSecrets, e.Name())] = data
	}
	if n == 0 {
		return nil, fmt.Errorf("read secrets: %s holds no files", o.secrets)
	}
	return files, nil
}
