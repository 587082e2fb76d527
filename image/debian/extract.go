package debian

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
)

const (
	maxTree    = 4 << 30 // bytes of one package, unpacked
	maxEntries = 200_000 // files of one package
)

// extract unpacks a .deb into dir, which must be empty: the content of files
// below dir/files, everything else about them in dir/index.json. Links exist in
// the index only, so no name in the archive can lead out of dir.
func extract(deb *os.File, dir string) error {
	info, err := deb.Stat()
	if err != nil {
		return err
	}
	data, err := openData(deb, info.Size())
	if err != nil {
		return err
	}
	defer data.Close()
	if err := os.Mkdir(dir+"/files", 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir + "/files")
	if err != nil {
		return err
	}
	defer root.Close()
	x := &extractor{root: root, index: newIndex(), buf: make([]byte, 256<<10)}
	if err := x.all(tar.NewReader(io.LimitReader(data, maxTree))); err != nil {
		return err
	}
	return x.index.write(dir)
}

type extractor struct {
	root  *os.Root
	index *index
	buf   []byte
}

func (x *extractor) all(t *tar.Reader) error {
	for {
		h, err := t.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read data.tar: %w", err)
		}
		name, err := cleanName(h.Name)
		if err != nil {
			return err
		}
		if name == "." {
			continue
		}
		if len(x.index.nodes) >= maxEntries {
			return fmt.Errorf("package holds more than %d files", maxEntries)
		}
		if err := x.one(name, h, t); err != nil {
			return fmt.Errorf("extract %q: %w", name, err)
		}
	}
}

// cleanName turns "./usr/share/" into "usr/share" and refuses what is not a
// path below the package's root.
func cleanName(name string) (string, error) {
	clean := strings.TrimSuffix(strings.TrimPrefix(name, "./"), "/")
	if clean == "" {
		clean = "."
	}
	if !fs.ValidPath(clean) || strings.ContainsAny(clean, "\\\x00") {
		return "", fmt.Errorf("extract %q: the name leads out of the package", name)
	}
	return clean, nil
}

func (x *extractor) one(name string, h *tar.Header, content io.Reader) error {
	// Permission bits only: setuid, setgid and sticky bits end here. Who may do
	// what in an image is said by the image, not by the package.
	n := &node{Path: name, Perm: uint32(h.Mode) & 0o777, Time: h.ModTime.Unix()}
	switch h.Typeflag {
	case tar.TypeDir:
		n.Kind = kindDir
		return x.index.add(n)
	case tar.TypeSymlink:
		n.Kind, n.Link = kindLink, h.Linkname
		return x.index.add(n)
	case tar.TypeLink:
		return x.hardlink(n, h.Linkname)
	case tar.TypeReg:
		n.Kind = kindFile
		if err := x.index.add(n); err != nil {
			return err
		}
		return x.store(n, content)
	}
	return fmt.Errorf("type %q is neither file, directory nor link", h.Typeflag)
}

// hardlink gives a file that was stored already a second name.
func (x *extractor) hardlink(n *node, target string) error {
	target, err := cleanName(target)
	if err != nil {
		return err
	}
	first := x.index.nodes[target]
	if first == nil || first.Kind != kindFile {
		return fmt.Errorf("hard link to %q, which is no file before it", target)
	}
	n.Kind, n.Length, n.SHA256, n.Perm = kindFile, first.Length, first.SHA256, first.Perm
	n.Stored = first.stored()
	return x.index.add(n)
}

func (x *extractor) store(n *node, content io.Reader) error {
	f, err := x.create(n)
	if err != nil {
		return err
	}
	sum := sha256.New()
	n.Length, err = io.CopyBuffer(io.MultiWriter(f, sum), onlyReader{content}, x.buf)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	n.SHA256 = hex.EncodeToString(sum.Sum(nil))
	return nil
}

// create makes the file that holds the content. On a file system that does not
// tell upper from lower case (macOS) two names of a package may be one there:
// the kernel has xt_HL.ko and xt_hl.ko. The second is stored under another.
func (x *extractor) create(n *node) (*os.File, error) {
	if err := x.root.MkdirAll(path.Dir(n.Path), 0o755); err != nil {
		return nil, err
	}
	name := n.Path
	for i := 1; ; i++ {
		f, err := x.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if !errors.Is(err, fs.ErrExist) || i > 9 {
			return f, err
		}
		name = fmt.Sprintf("%s~%d", n.Path, i)
		n.Stored = name
	}
}

// onlyReader hides WriteTo, which would make io.CopyBuffer pass the buffer by.
type onlyReader struct{ io.Reader }
