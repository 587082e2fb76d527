package fat

import (
	"fmt"
	"io"
	"io/fs"
	"time"
)

// Create makes a new file of size bytes from r. Until it is whole and on
// stable storage, its name is not there.
func (v *Volume) Create(dir, name string, r io.Reader, size int64, at time.Time) error {
	if err := v.create(dir, name, r, size, at); err != nil {
		return fmt.Errorf("write %s to the boot partition: %w", name, err)
	}
	return nil
}

func (v *Volume) create(dir, name string, r io.Reader, size int64, at time.Time) error {
	if err := checkName(name); err != nil {
		return err
	}
	if size <= 0 || size >= 1<<32 {
		return fmt.Errorf("%d bytes", size)
	}
	d, err := v.open(dir)
	if err != nil {
		return err
	}
	if _, taken := d.find(name); taken {
		return fs.ErrExist
	}
	list, err := v.allocate((size + v.clusterSize() - 1) / v.clusterSize())
	if err != nil {
		return err
	}
	if err := v.fill(list, r, size); err != nil {
		return err
	}
	if err := v.link(chained(list)); err != nil {
		return err
	}
	var short [slotSize]byte
	short[11] = attrArchive
	date, clock := dosTime(at)
	le.PutUint16(short[14:], clock)
	le.PutUint16(short[16:], date)
	le.PutUint16(short[18:], date)
	le.PutUint16(short[20:], uint16(list[0]>>16))
	le.PutUint16(short[22:], clock)
	le.PutUint16(short[24:], date)
	le.PutUint16(short[26:], uint16(list[0]))
	le.PutUint32(short[28:], uint32(size))
	if err := v.place(d, slots(name, short, d.aliases(nil))); err != nil {
		return err
	}
	return v.noteFree()
}

// fill writes a file's clusters and syncs them. They are free until linked.
func (v *Volume) fill(list []uint32, r io.Reader, size int64) error {
	buf := make([]byte, v.clusterSize())
	for _, c := range list {
		n := min(size, int64(len(buf)))
		if _, err := io.ReadFull(r, buf[:n]); err != nil {
			return err
		}
		clear(buf[n:])
		if _, err := v.d.WriteAt(buf, v.offset(c)); err != nil {
			return err
		}
		size -= n
	}
	return v.d.Sync()
}

// Rename gives a file another name in its folder. A power cut leaves the old
// name or the new one, or, where the slots of the two do not lie in one
// sector, both; see Twins.
func (v *Volume) Rename(dir, from, to string) error {
	if err := v.rename(dir, from, to); err != nil {
		return fmt.Errorf("rename %s to %s on the boot partition: %w", from, to, err)
	}
	return nil
}

func (v *Volume) rename(dir, from, to string) error {
	if err := checkName(to); err != nil {
		return err
	}
	d, err := v.open(dir)
	if err != nil {
		return err
	}
	f, found := d.find(from)
	if !found {
		return fs.ErrNotExist
	}
	if _, taken := d.find(to); taken {
		return fs.ErrExist
	}
	set := slots(to, f.contents, d.aliases(&f))
	if at, ok := d.beside(f, len(set)/slotSize); ok {
		d.mark(f.at, f.n)
		copy(d.data[at*slotSize:], set)
		return v.writeSlots(d, f.at)
	}
	if err := v.place(d, slots(to, f.contents, d.aliases(nil))); err != nil {
		return err
	}
	if err := v.unname(d, f); err != nil {
		return err
	}
	return v.noteFree() // the folder may have grown
}

// Remove removes a file and frees its room.
func (v *Volume) Remove(dir, name string) error {
	d, err := v.open(dir)
	if err != nil {
		return err
	}
	f, found := d.find(name)
	if !found {
		return nil
	}
	if f.Folder {
		return fmt.Errorf("remove %s from the boot partition: it is a folder", name)
	}
	free := map[uint32]uint32{}
	if f.Size > 0 {
		chain, err := v.chain(f.first)
		if err != nil {
			return fmt.Errorf("remove %s from the boot partition: %w", name, err)
		}
		for _, c := range chain {
			free[c] = 0
		}
	}
	if err := v.unname(d, f); err != nil {
		return fmt.Errorf("remove %s from the boot partition: %w", name, err)
	}
	if err := v.link(free); err != nil {
		return fmt.Errorf("remove %s from the boot partition: %w", name, err)
	}
	return v.noteFree()
}

// unname removes a name and leaves the content alone. The short slot goes
// first: long ones without it are nothing.
func (v *Volume) unname(d *folder, f File) error {
	d.mark(f.at, f.n)
	last := f.at + f.n - 1
	if err := v.writeSlots(d, last); err != nil {
		return err
	}
	if f.at/perSector != last/perSector {
		return v.writeSlots(d, f.at)
	}
	return nil
}

func (d *folder) mark(at, n int) {
	for i := range n {
		d.data[(at+i)*slotSize] = removed
	}
}

// aliases are the short names in use, but for one file's.
func (d *folder) aliases(but *File) map[[11]byte]bool {
	taken := map[[11]byte]bool{}
	for _, f := range d.files {
		if but == nil || f.at != but.at {
			taken[[11]byte(f.contents[:11])] = true
		}
	}
	return taken
}

// beside finds n slots in the one sector that holds all of f's, over those or
// free ones.
func (d *folder) beside(f File, n int) (at int, ok bool) {
	first := f.at / perSector * perSector
	if (f.at+f.n-1)/perSector*perSector != first {
		return 0, false
	}
	if n <= f.n {
		return f.at + f.n - n, true
	}
	for at := first; at+n <= first+perSector && at+n <= d.end; at++ {
		free := true
		for i := at; i < at+n; i++ {
			free = free && (d.data[i*slotSize] == removed || i >= f.at && i < f.at+f.n)
		}
		if free {
			return at, true
		}
	}
	return 0, false
}

// place puts slots into a folder such that the write of one sector makes them
// seen.
func (v *Volume) place(d *folder, set []byte) error {
	n := len(set) / slotSize
	at, old := d.room(n), d.end
	if (at+n)*slotSize > len(d.data) {
		if err := v.extend(d); err != nil {
			return err
		}
	}
	copy(d.data[at*slotSize:], set)
	if at+n > old {
		// What lies behind the end means nothing and must not come to light.
		clear(d.data[(at+n)*slotSize:])
		d.end = at + n
		if next := at + n; next%perSector == 0 && next*slotSize < len(d.data) {
			if err := v.writeSlots(d, next); err != nil {
				return err
			}
		}
	}
	if err := v.writeSlots(d, at); err != nil {
		return err
	}
	if at > old { // passed over, up to the sector's end: it ended the folder
		d.mark(old, at-old)
		if err := v.writeSlots(d, old); err != nil {
			return err
		}
	}
	d.parse()
	return nil
}

// room finds n slots within one sector: removed ones, else new ones.
func (d *folder) room(n int) int {
	for at := 0; at+n <= d.end; at++ {
		free := at/perSector == (at+n-1)/perSector
		for i := at; free && i < at+n; i++ {
			free = d.data[i*slotSize] == removed
		}
		if free {
			return at
		}
	}
	if d.end/perSector != (d.end+n-1)/perSector {
		return (d.end/perSector + 1) * perSector
	}
	return d.end
}

// extend gives a folder another cluster, empty on the disk before it is
// linked.
func (v *Volume) extend(d *folder) error {
	c, err := v.allocate(1)
	if err != nil {
		return err
	}
	empty := make([]byte, v.clusterSize())
	if _, err := v.d.WriteAt(empty, v.offset(c[0])); err != nil {
		return err
	}
	if err := v.d.Sync(); err != nil {
		return err
	}
	last := d.clusters[len(d.clusters)-1]
	if err := v.link(map[uint32]uint32{c[0]: endMark}); err != nil {
		return err
	}
	d.clusters, d.data = append(d.clusters, c[0]), append(d.data, empty...)
	return v.link(map[uint32]uint32{last: c[0]})
}

// writeSlots writes the sector that holds slot at, and syncs.
func (v *Volume) writeSlots(d *folder, at int) error {
	off := int64(at/perSector) * sector
	cluster := d.clusters[off/v.clusterSize()]
	if _, err := v.d.WriteAt(d.data[off:][:sector], v.offset(cluster)+off%v.clusterSize()); err != nil {
		return err
	}
	return v.d.Sync()
}
