package debian

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// index describes an extracted package. It lies beside the files as index.json:
// the sha256 of the rest on the first line, then one JSON array of nodes, sorted
// by path.
type index struct {
	nodes    map[string]*node
	children map[string][]string // directory -> base names, sorted once complete
}

type kind string

const (
	kindFile kind = "file"
	kindDir  kind = "dir"
	kindLink kind = "link"
)

// node is one file, directory or symbolic link. It is its own fs.FileInfo and
// fs.DirEntry, so that modes and times come from the package and not from the
// file system and umask it was extracted under.
type node struct {
	Path   string `json:"path"`
	Kind   kind   `json:"kind"`
	Perm   uint32 `json:"perm"`
	Time   int64  `json:"time"`           // Unix seconds
	Length int64  `json:"size,omitempty"` // bytes
	SHA256 string `json:"sha256,omitempty"`
	Link   string `json:"link,omitempty"`   // target as the package has it
	Stored string `json:"stored,omitempty"` // path below files/, where it is not Path
}

func (n *node) stored() string {
	if n.Stored != "" {
		return n.Stored
	}
	return n.Path
}

func (n *node) Name() string               { return path.Base(n.Path) }
func (n *node) Size() int64                { return n.Length }
func (n *node) ModTime() time.Time         { return time.Unix(n.Time, 0).UTC() }
func (n *node) IsDir() bool                { return n.Kind == kindDir }
func (n *node) Sys() any                   { return nil }
func (n *node) Type() fs.FileMode          { return n.Mode().Type() }
func (n *node) Info() (fs.FileInfo, error) { return n, nil }

func (n *node) Mode() fs.FileMode {
	mode := fs.FileMode(n.Perm) & fs.ModePerm
	switch n.Kind {
	case kindDir:
		mode |= fs.ModeDir
	case kindLink:
		mode |= fs.ModeSymlink
	}
	return mode
}

func newIndex() *index {
	return &index{
		nodes:    map[string]*node{".": {Path: ".", Kind: kindDir, Perm: 0o755}},
		children: map[string][]string{},
	}
}

// add puts a node into the index, with the directories above it. A directory
// may come twice, anything else may not.
func (x *index) add(n *node) error {
	if have := x.nodes[n.Path]; have != nil {
		if have.Kind == kindDir && n.Kind == kindDir {
			*have = *n
			return nil
		}
		return errors.New("the package names it twice")
	}
	dir := path.Dir(n.Path)
	switch parent := x.nodes[dir]; {
	case parent == nil:
		if err := x.add(&node{Path: dir, Kind: kindDir, Perm: 0o755, Time: n.Time}); err != nil {
			return err
		}
	case parent.Kind != kindDir:
		return fmt.Errorf("lies below %q, which is no directory", dir)
	}
	x.nodes[n.Path] = n
	x.children[dir] = append(x.children[dir], n.Name())
	return nil
}

// list returns the nodes below ".", sorted by path.
func (x *index) list() []*node {
	all := make([]*node, 0, len(x.nodes))
	for _, name := range slices.Sorted(maps.Keys(x.nodes)) {
		if name != "." {
			all = append(all, x.nodes[name])
		}
	}
	return all
}

func (x *index) write(dir string) error {
	data, err := json.Marshal(x.list())
	if err != nil {
		return err
	}
	return os.WriteFile(dir+"/index.json", []byte(hexSHA256(data)+"\n"+string(data)), 0o644)
}

func readIndex(dir string) (*index, error) {
	data, err := os.ReadFile(dir + "/index.json")
	if err != nil {
		return nil, err
	}
	return parseIndex(data)
}

func parseIndex(data []byte) (*index, error) {
	sum, body, _ := bytes.Cut(data, []byte("\n"))
	if got := hexSHA256(body); got != string(sum) {
		return nil, &ContentError{What: "index of extracted package", Want: "sha256 " + string(sum), Got: got}
	}
	var all []*node
	if err := json.Unmarshal(body, &all); err != nil {
		return nil, fmt.Errorf("read index of extracted package: %v", err)
	}
	x := newIndex()
	for _, n := range all {
		if n == nil || !fs.ValidPath(n.Path) || !fs.ValidPath(n.stored()) {
			return nil, errors.New("read index of extracted package: a path leads out of it")
		}
		if err := x.add(n); err != nil {
			return nil, fmt.Errorf("read index of extracted package: %q: %v", n.Path, err)
		}
	}
	for _, names := range x.children {
		slices.Sort(names)
	}
	return x, nil
}

// follow returns the node a path stands for, symbolic links followed as if the
// package were the root of a file system.
func (x *index) follow(name string) (*node, error) {
	for range 40 { // as Linux has it (path_resolution(7))
		n, rest := x.walk(name)
		if n == nil {
			return nil, fs.ErrNotExist
		}
		if n.Kind != kindLink {
			return n, nil
		}
		target := n.Link
		if !strings.HasPrefix(target, "/") {
			target = "/" + path.Dir(n.Path) + "/" + target
		}
		name = strings.TrimPrefix(path.Join(target, rest), "/")
		if name == "" {
			name = "."
		}
	}
	return nil, errors.New("too many levels of symbolic links")
}

// walk goes down to the first symbolic link on the way, or to the end; rest is
// what lies behind the link.
func (x *index) walk(name string) (n *node, rest string) {
	for i := range len(name) {
		if name[i] != '/' {
			continue
		}
		if n := x.nodes[name[:i]]; n != nil && n.Kind == kindLink {
			return n, name[i+1:]
		}
	}
	return x.nodes[name], ""
}

// verify checks that every file has its size and content. The error is a
// *ContentError for a file that has not.
func (x *index) verify(dir string) error {
	buf := make([]byte, 256<<10)
	for _, n := range x.list() {
		if n.Kind != kindFile {
			continue
		}
		f, err := os.Open(filepath.Join(dir, "files", filepath.FromSlash(n.stored())))
		if err != nil {
			return err
		}
		got, err := hashOf(f, buf)
		f.Close()
		if err != nil {
			return err
		}
		if got != n.SHA256 {
			return &ContentError{What: "extracted file " + n.Path, Want: "sha256 " + n.SHA256, Got: got}
		}
	}
	return nil
}

var _ interface {
	fs.FileInfo
	fs.DirEntry
} = (*node)(nil)
