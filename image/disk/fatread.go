package disk

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"
)

// Limits that no boot partition of ours comes near; a broken or hostile
// volume must not cost more.
const (
	maxFATNodes = 4096 // files and folders
	maxFATDepth = 16
	maxFolder   = 2 << 20 // bytes of one folder's entries, as the format has it
)

// FAT is a FAT32 file system opened for reading.
type FAT struct {
	r      io.ReaderAt
	g      geometry
	fat    []byte
	label  string
	serial uint32
	hidden uint32
}

// FATInfo is one file of a volume.
type FATInfo struct {
	Path  string
	Size  int64
	Time  time.Time
	first uint32
}

// OpenFAT opens a FAT32 volume of size bytes.
func OpenFAT(r io.ReaderAt, size int64) (*FAT, error) {
	s := make([]byte, fatSector)
	if n, err := r.ReadAt(s, 0); n < len(s) {
		return nil, fmt.Errorf("open FAT32: boot sector: %v", err)
	}
	if s[510] != 0x55 || s[511] != 0xaa || string(s[82:87]) != "FAT32" || le.Uint16(s[11:]) != fatSector {
		return nil, errors.New("open FAT32: no FAT32 boot sector with sectors of 512 bytes")
	}
	g := geometry{
		sectors: le.Uint32(s[32:]), perCluster: uint32(s[13]), fatSectors: le.Uint32(s[36:]),
		reserved: uint32(le.Uint16(s[14:])), copies: uint32(s[16]), root: le.Uint32(s[44:]),
	}
	if g.perCluster == 0 || g.perCluster&(g.perCluster-1) != 0 || g.reserved == 0 || g.copies == 0 || g.fatSectors == 0 {
		return nil, errors.New("open FAT32: boot sector makes no sense")
	}
	if int64(g.sectors)*fatSector > size || g.dataStart() >= int64(g.sectors)*fatSector {
		return nil, fmt.Errorf("open FAT32: volume of %d sectors does not fit in %d bytes", g.sectors, size)
	}
	g.clusters = uint32((int64(g.sectors)*fatSector - g.dataStart()) / g.clusterSize())
	// Entries behind the last cluster's mean nothing.
	fatSize := min(int64(g.fatSectors)*fatSector, (int64(g.clusters)+2)*fatEntry)
	f := &FAT{
		r: r, g: g, fat: make([]byte, fatSize),
		label: strings.TrimRight(string(s[71:82]), " "), serial: le.Uint32(s[67:]), hidden: le.Uint32(s[28:]),
	}
	if n, err := r.ReadAt(f.fat, int64(g.reserved)*fatSector); n < len(f.fat) {
		return nil, fmt.Errorf("open FAT32: FAT: %v", err)
	}
	return f, nil
}

// Reserved reads one of the sectors before the file system that belong to no
// file; see FATVolume.
func (f *FAT) Reserved(at int64) ([]byte, error) {
	if at < FirstReserved || at > LastReserved || at >= int64(f.g.reserved) {
		return nil, fmt.Errorf("read FAT32: %d is no reserved sector", at)
	}
	s := make([]byte, fatSector)
	if n, err := f.r.ReadAt(s, at*fatSector); n < len(s) {
		return nil, fmt.Errorf("read FAT32: reserved sector %d: %v", at, err)
	}
	return s, nil
}

// chain returns the clusters from first on.
func (f *FAT) chain(first uint32) ([]uint32, error) {
	var chain []uint32
	for n := first; n < fatEndMin; {
		if n < 2 || n > f.g.clusters+1 || int64(n)*fatEntry+fatEntry > int64(len(f.fat)) {
			return nil, fmt.Errorf("cluster %d lies outside the volume", n)
		}
		if len(chain) > int(f.g.clusters) {
			return nil, fmt.Errorf("clusters from %d on run in a circle", first)
		}
		chain = append(chain, n)
		n = le.Uint32(f.fat[n*fatEntry:]) & fatMask
	}
	return chain, nil
}

// read returns size bytes of the chain from first on; -1 reads all of it.
func (f *FAT) read(first uint32, size int64) ([]byte, error) {
	if size == 0 {
		return nil, nil
	}
	chain, err := f.chain(first)
	if err != nil {
		return nil, err
	}
	whole := int64(len(chain)) * f.g.clusterSize()
	if size < 0 {
		size = whole
	}
	if size > whole {
		return nil, fmt.Errorf("%d bytes, but its clusters hold %d", size, whole)
	}
	data := make([]byte, size)
	for i := 0; i < len(chain); {
		run := 1 // clusters that follow each other are read at once
		for i+run < len(chain) && chain[i+run] == chain[i]+uint32(run) {
			run++
		}
		at := int64(i) * f.g.clusterSize()
		if at >= size {
			break
		}
		part := data[at:min(size, at+int64(run)*f.g.clusterSize())]
		if n, err := f.r.ReadAt(part, f.g.clusterOffset(chain[i])); n < len(part) {
			return nil, err
		}
		i += run
	}
	return data, nil
}

// List returns every file, sorted by path.
func (f *FAT) List() ([]FATInfo, error) {
	l := fatLister{FAT: f}
	if err := l.list("", f.g.root, 0); err != nil {
		return nil, err
	}
	slices.SortFunc(l.files, func(a, b FATInfo) int { return strings.Compare(a.Path, b.Path) })
	return l.files, nil
}

type fatLister struct {
	*FAT
	files []FATInfo
	nodes int
}

func (f *fatLister) list(folder string, first uint32, depth int) error {
	if depth > maxFATDepth {
		return fmt.Errorf("list FAT32: folders deeper than %d at %s", maxFATDepth, folder)
	}
	data, err := f.folder(first)
	if err != nil {
		return fmt.Errorf("list FAT32: folder /%s: %v", folder, err)
	}
	var long longName
	for ; len(data) >= dirEntrySize && data[0] != 0; data = data[dirEntrySize:] {
		e := data[:dirEntrySize]
		switch {
		case e[0] == 0xe5: // removed
			long = longName{}
			continue
		case e[11]&attrLongName == attrLongName:
			long.add(e)
			continue
		case e[11]&attrLabel != 0 || e[0] == '.':
			long = longName{}
			continue
		}
		short := [11]byte(e[:11])
		name := long.take(short)
		if name == "" {
			name = unpack83(short)
		}
		if err := checkName(name); err != nil {
			return fmt.Errorf("list FAT32: folder /%s: %v", folder, err)
		}
		if f.nodes++; f.nodes > maxFATNodes {
			return fmt.Errorf("list FAT32: more than %d files and folders", maxFATNodes)
		}
		info := FATInfo{
			Path: path.Join(folder, name), Size: int64(le.Uint32(e[28:])), Time: fromDOSTime(le.Uint16(e[24:]), le.Uint16(e[22:])),
			first: uint32(le.Uint16(e[20:]))<<16 | uint32(le.Uint16(e[26:])),
		}
		if e[11]&attrDirectory != 0 {
			if err := f.list(info.Path, info.first, depth+1); err != nil {
				return err
			}
			continue
		}
		f.files = append(f.files, info)
	}
	return nil
}

func (f *FAT) folder(first uint32) ([]byte, error) {
	chain, err := f.chain(first)
	if err != nil {
		return nil, err
	}
	if size := int64(len(chain)) * f.g.clusterSize(); size > maxFolder {
		return nil, fmt.Errorf("%d bytes of entries", size)
	}
	return f.read(first, -1)
}

// ReadFile returns the content of a file. Case does not matter, as to
// firmware. The error matches fs.ErrNotExist if there is none.
func (f *FAT) ReadFile(name string) ([]byte, error) {
	all, err := f.List()
	if err != nil {
		return nil, err
	}
	for _, info := range all {
		if strings.EqualFold(info.Path, name) {
			return f.content(info)
		}
	}
	return nil, &fs.PathError{Op: "read", Path: name, Err: fs.ErrNotExist}
}

func (f *FAT) content(info FATInfo) ([]byte, error) {
	data, err := f.read(info.first, info.Size)
	if err != nil {
		return nil, fmt.Errorf("read FAT32 file %s: %v", info.Path, err)
	}
	return data, nil
}
