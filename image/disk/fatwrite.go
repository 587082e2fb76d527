package disk

import (
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"
)

// FATVolume is what a FAT32 file system is made with. Nothing else goes into
// it, so equal volumes with equal files are equal byte for byte.
type FATVolume struct {
	Size   int64     // bytes; 33 MiB at least
	Label  string    // at most 11 characters: capitals, digits, hyphen
	Serial uint32    // volume serial number
	Time   time.Time // of every entry; FAT knows no time before 1980
	Hidden uint32    // sectors on the disk before the volume
	// Reserved is what lies in sectors before the file system that belong to no
	// file, by sector number: from FirstReserved to LastReserved.
	Reserved map[int64][]byte
}

// The reserved sectors that FAT32 itself does not use.
const (
	FirstReserved = fatBackup + 2
	LastReserved  = fatReserved - 1
)

// FATFile is one file of a volume. Folders come to be by their files' paths.
type FATFile struct {
	Path string // slash-separated, relative to the root
	Data []byte
}

// WriteFAT writes a FAT32 file system at the start of w. Free clusters are
// not written: on a fresh sparse file they stay holes.
func WriteFAT(w io.WriterAt, v FATVolume, files []FATFile) error {
	g, err := geometryFor(v.Size)
	if err != nil {
		return err
	}
	label, err := packLabel(v.Label)
	if err != nil {
		return err
	}
	root, err := fatTree(files)
	if err != nil {
		return err
	}
	b := &fatBuilder{w: w, g: g, v: v, label: label, next: fatRoot, fat: make([]byte, int64(g.fatSectors)*fatSector)}
	if err := b.allocate(root); err != nil {
		return err
	}
	if err := b.writeNode(root, 0); err != nil {
		return fmt.Errorf("write FAT32: %w", err)
	}
	if err := b.writeTables(); err != nil {
		return fmt.Errorf("write FAT32: %w", err)
	}
	return nil
}

func packLabel(label string) (packed [11]byte, err error) {
	if len(label) > 11 || label != shortChars(label) {
		return packed, fmt.Errorf("FAT32 label %q: want at most 11 of A-Z, 0-9 and hyphen", label)
	}
	if label == "" {
		label = "NO NAME"
	}
	copy(packed[:], label+strings.Repeat(" ", 11))
	return packed, nil
}

// fatNode is a file or folder on its way to the disk.
type fatNode struct {
	name     string
	data     []byte     // of a file
	children []*fatNode // of a folder, sorted by name
	folder   bool

	first    uint32 // cluster; 0 if empty
	clusters uint32
}

// fatTree turns paths into folders. Names that differ only in case are one to
// FAT, and refused.
func fatTree(files []FATFile) (*fatNode, error) {
	root := &fatNode{folder: true}
	sorted := slices.Clone(files)
	slices.SortFunc(sorted, func(a, b FATFile) int { return strings.Compare(a.Path, b.Path) })
	for _, f := range sorted {
		if path.Clean(f.Path) != f.Path || path.IsAbs(f.Path) {
			return nil, fmt.Errorf("FAT file %q: want a clean, relative path", f.Path)
		}
		if int64(len(f.Data)) > 1<<32-1 {
			return nil, fmt.Errorf("FAT file %s: %d bytes, FAT holds less than 4 GiB", f.Path, len(f.Data))
		}
		at := root
		words := strings.Split(f.Path, "/")
		for i, name := range words {
			if err := checkName(name); err != nil {
				return nil, err
			}
			last := i == len(words)-1
			child := at.child(name)
			switch {
			case child == nil:
				child = &fatNode{name: name, folder: !last}
				at.children = append(at.children, child)
			case last || !child.folder || child.name != name:
				return nil, fmt.Errorf("FAT file %s: its name, but for case, is taken by %s", f.Path, child.name)
			}
			at = child
		}
		at.data = f.Data
	}
	return root, nil
}

func (n *fatNode) child(name string) *fatNode {
	for _, c := range n.children {
		if strings.EqualFold(c.name, name) {
			return c
		}
	}
	return nil
}

type fatBuilder struct {
	w     io.WriterAt
	g     geometry
	v     FATVolume
	label [11]byte
	fat   []byte
	next  uint32 // first free cluster
	top   uint32 // first one behind the free ones
}

// fatLarge is the size, in bytes, from which on a file lies at the volume's
// end. On a boot partition that is the kernel image: most of its initramfs is
// in the root as well, which begins where the volume ends, and a compressor
// finds what is repeated only within its window.
const fatLarge = 4 << 20

// allocate gives every node its clusters, one run each, folders first.
func (b *fatBuilder) allocate(root *fatNode) error {
	b.setFAT(0, 0x0fffff00|fatMedia)
	b.setFAT(1, fatEnd) // its high bits say: cleanly unmounted, no errors
	var folders, files []*fatNode
	var walk func(n *fatNode)
	walk = func(n *fatNode) {
		if !n.folder {
			files = append(files, n)
			return
		}
		folders = append(folders, n)
		for _, c := range n.children {
			walk(c)
		}
	}
	walk(root)
	b.top = b.g.clusters + 2
	for _, n := range slices.Concat(folders, files) {
		size := int64(len(n.data))
		if n.folder {
			size = int64(len(b.entries(n, 0)))
		}
		if err := b.take(n, uint32(ceilDiv(size, b.g.clusterSize()))); err != nil {
			return err
		}
	}
	return nil
}

func (b *fatBuilder) take(n *fatNode, clusters uint32) error {
	if n.folder && clusters == 0 {
		clusters = 1
	}
	if clusters == 0 {
		return nil
	}
	if free := b.top - b.next; clusters > free {
		return fmt.Errorf("write FAT32: %s does not fit, %d of %d clusters of %d bytes are taken", n.name, b.g.clusters-free, b.g.clusters, b.g.clusterSize())
	}
	n.first, n.clusters = b.next, clusters
	if !n.folder && len(n.data) >= fatLarge {
		b.top -= clusters
		n.first = b.top
	} else {
		b.next += clusters
	}
	for i := range clusters {
		next := uint32(fatEnd)
		if i+1 < clusters {
			next = n.first + i + 1
		}
		b.setFAT(n.first+i, next)
	}
	return nil
}

func (b *fatBuilder) setFAT(cluster, value uint32) { le.PutUint32(b.fat[cluster*fatEntry:], value) }

// writeNode writes a node's clusters, the last one padded with zeros, and all
// below it. parent is the first cluster of the folder it lies in.
func (b *fatBuilder) writeNode(n *fatNode, parent uint32) error {
	data := n.data
	if n.folder {
		data = b.entries(n, parent)
	}
	if n.clusters > 0 {
		size := int64(n.clusters) * b.g.clusterSize()
		if _, err := b.w.WriteAt(data, b.g.clusterOffset(n.first)); err != nil {
			return err
		}
		pad := make([]byte, size-int64(len(data)))
		if _, err := b.w.WriteAt(pad, b.g.clusterOffset(n.first)+int64(len(data))); err != nil {
			return err
		}
	}
	for _, c := range n.children {
		if err := b.writeNode(c, n.first); err != nil {
			return err
		}
	}
	return nil
}

// entries returns a folder's content. The root has a volume label where
// others have "." and "..", and counts as cluster 0 in its children's "..".
func (b *fatBuilder) entries(n *fatNode, parent uint32) []byte {
	var out []byte
	if n.name == "" {
		out = b.entry(out, b.label, attrLabel, 0, 0)
	} else {
		if parent == fatRoot {
			parent = 0
		}
		out = b.entry(out, pack83(".", ""), attrDirectory, n.first, 0)
		out = b.entry(out, pack83("..", ""), attrDirectory, parent, 0)
	}
	taken := map[[11]byte]bool{}
	for _, c := range n.children {
		short, exact := shortName(c.name, taken)
		if !exact {
			out = append(out, longEntries(c.name, short)...)
		}
		attr := byte(attrArchive)
		if c.folder {
			attr = attrDirectory
		}
		out = b.entry(out, short, attr, c.first, uint32(len(c.data)))
	}
	return out
}

func (b *fatBuilder) entry(out []byte, short [11]byte, attr byte, first, size uint32) []byte {
	date, clock := dosTime(b.v.Time)
	e := make([]byte, dirEntrySize)
	copy(e, short[:])
	e[11] = attr
	le.PutUint16(e[14:], clock) // created
	le.PutUint16(e[16:], date)
	le.PutUint16(e[18:], date) // accessed
	le.PutUint16(e[20:], uint16(first>>16))
	le.PutUint16(e[22:], clock) // written
	le.PutUint16(e[24:], date)
	le.PutUint16(e[26:], uint16(first))
	le.PutUint32(e[28:], size)
	return append(out, e...)
}

// writeTables writes what lies before the clusters: boot sector, FSInfo, the
// copies of both, and the FATs.
func (b *fatBuilder) writeTables() error {
	reserved := make([]byte, fatReserved*fatSector)
	copy(reserved, b.bootSector())
	copy(reserved[fatSector:], b.fsInfo())
	copy(reserved[fatBackup*fatSector:], reserved[:2*fatSector])
	for at, data := range b.v.Reserved {
		if at < FirstReserved || at > LastReserved || len(data) > fatSector {
			return fmt.Errorf("%d bytes for reserved sector %d", len(data), at)
		}
		copy(reserved[at*fatSector:], data)
	}
	if _, err := b.w.WriteAt(reserved, 0); err != nil {
		return err
	}
	for i := range int64(fatCopies) {
		if _, err := b.w.WriteAt(b.fat, fatReserved*fatSector+i*int64(len(b.fat))); err != nil {
			return err
		}
	}
	return nil
}

func (b *fatBuilder) bootSector() []byte {
	s := make([]byte, fatSector)
	copy(s, "\xeb\x58\x90WAYSIDE ")
	le.PutUint16(s[11:], fatSector)
	s[13] = byte(b.g.perCluster)
	le.PutUint16(s[14:], fatReserved)
	s[16] = fatCopies
	s[21] = fatMedia
	le.PutUint16(s[24:], 63)  // sectors per track, for no one any more
	le.PutUint16(s[26:], 255) // heads, likewise
	le.PutUint32(s[28:], b.v.Hidden)
	le.PutUint32(s[32:], b.g.sectors)
	le.PutUint32(s[36:], b.g.fatSectors)
	le.PutUint32(s[44:], fatRoot)
	le.PutUint16(s[48:], 1) // FSInfo
	le.PutUint16(s[50:], fatBackup)
	s[64] = 0x80 // drive number
	s[66] = 0x29 // serial, label and type follow
	le.PutUint32(s[67:], b.v.Serial)
	copy(s[71:], b.label[:])
	copy(s[82:], "FAT32   ")
	s[510], s[511] = 0x55, 0xaa
	return s
}

func (b *fatBuilder) fsInfo() []byte {
	s := make([]byte, fatSector)
	copy(s, "RRaA")
	copy(s[484:], "rrAa")
	le.PutUint32(s[488:], b.top-b.next) // free clusters
	le.PutUint32(s[492:], b.next)       // where to look for one
	s[510], s[511] = 0x55, 0xaa
	return s
}
