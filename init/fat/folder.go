package fat

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"time"
)

// File is a file or folder as its folder describes it.
type File struct {
	Name   string
	Size   int64
	Folder bool

	first    uint32 // cluster; 0 if empty
	at, n    int    // its slots in the folder, those of the long name included
	contents [slotSize]byte
}

// folder is a directory in memory.
type folder struct {
	clusters []uint32
	data     []byte
	files    []File
	end      int // first slot that was never used
}

func (v *Volume) readFolder(first uint32) (*folder, error) {
	chain, err := v.chain(first)
	if err != nil {
		return nil, err
	}
	if int64(len(chain))*v.clusterSize() > maxFolder {
		return nil, fmt.Errorf("more than %d bytes of names", maxFolder)
	}
	d := &folder{clusters: chain}
	for _, c := range chain {
		buf := make([]byte, v.clusterSize())
		if n, err := v.d.ReadAt(buf, v.offset(c)); n < len(buf) {
			return nil, err
		}
		d.data = append(d.data, buf...)
	}
	d.parse()
	return d, nil
}

func (d *folder) parse() {
	d.files, d.end = nil, len(d.data)/slotSize
	var long longName
	for i := 0; i*slotSize < len(d.data); i++ {
		e := d.data[i*slotSize:][:slotSize]
		switch {
		case e[0] == 0:
			d.end = i
			return
		case e[0] == removed:
			long = longName{}
		case e[11]&0x3f == attrLong:
			long.add(e)
		case e[11]&attrLabel != 0 || e[0] == '.':
			long = longName{}
		default:
			name, parts := long.take(e[:11])
			d.files = append(d.files, File{
				Name: name, Size: int64(le.Uint32(e[28:])), Folder: e[11]&attrDirectory != 0,
				first: uint32(le.Uint16(e[20:]))<<16 | uint32(le.Uint16(e[26:])),
				at:    i - parts, n: parts + 1, contents: [slotSize]byte(e),
			})
		}
	}
}

func (d *folder) find(name string) (File, bool) {
	for _, f := range d.files {
		if strings.EqualFold(f.Name, name) {
			return f, true
		}
	}
	return File{}, false
}

// open finds a folder by its slash-separated path; case does not matter.
func (v *Volume) open(dir string) (*folder, error) {
	d, err := v.readFolder(v.root)
	if err != nil {
		return nil, fmt.Errorf("read the boot partition: %w", err)
	}
	for word := range strings.SplitSeq(strings.Trim(path.Clean("/"+dir), "/"), "/") {
		if word == "" {
			continue
		}
		f, found := d.find(word)
		if !found || !f.Folder {
			return nil, fmt.Errorf("read folder %s of the boot partition: %w", dir, fs.ErrNotExist)
		}
		if d, err = v.readFolder(f.first); err != nil {
			return nil, fmt.Errorf("read folder %s of the boot partition: %w", dir, err)
		}
	}
	return d, nil
}

// List returns what a folder holds, in its order.
func (v *Volume) List(dir string) ([]File, error) {
	d, err := v.open(dir)
	if err != nil {
		return nil, err
	}
	return d.files, nil
}

// Read returns the content of a file that List gave.
func (v *Volume) Read(f File) (*io.SectionReader, error) {
	c := &content{v: v}
	var err error
	if f.Size > 0 {
		c.chain, err = v.chain(f.first)
	}
	if err == nil && int64(len(c.chain))*v.clusterSize() < f.Size {
		err = errors.New("it has fewer clusters than bytes")
	}
	if err != nil {
		return nil, fmt.Errorf("read %s of the boot partition: %w", f.Name, err)
	}
	return io.NewSectionReader(c, 0, f.Size), nil
}

type content struct {
	v     *Volume
	chain []uint32
}

func (c *content) ReadAt(p []byte, off int64) (n int, err error) {
	size := c.v.clusterSize()
	for len(p) > 0 && off/size < int64(len(c.chain)) {
		// Clusters that follow each other are read at once.
		i, run := int(off/size), int64(1)
		for i+int(run) < len(c.chain) && run*size-off%size < int64(len(p)) && c.chain[i+int(run)] == c.chain[i]+uint32(run) {
			run++
		}
		m, err := c.v.d.ReadAt(p[:min(int64(len(p)), run*size-off%size)], c.v.offset(c.chain[i])+off%size)
		n, p, off = n+m, p[m:], off+int64(m)
		if err != nil && len(p) > 0 {
			return n, err
		}
	}
	if len(p) > 0 {
		return n, io.EOF
	}
	return n, nil
}

// dosTime is date and time of a slot: UTC, from 1980 on, in steps of 2 s.
func dosTime(t time.Time) (date, clock uint16) {
	t = t.UTC()
	if t.Year() < 1980 || t.Year() > 2107 {
		t = time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	return uint16(t.Year()-1980)<<9 | uint16(t.Month())<<5 | uint16(t.Day()),
		uint16(t.Hour())<<11 | uint16(t.Minute())<<5 | uint16(t.Second()/2)
}
