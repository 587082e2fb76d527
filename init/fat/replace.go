package fat

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"time"
)

// Replace gives a file of a folder another content, or makes it. A power cut
// leaves the old content or the new one, whole: the new one is written into
// free clusters, synced and read back, and then the one sector that holds the
// file's slot is pointed at it. Room for both is needed.
func (v *Volume) Replace(dir, name string, data []byte, at time.Time) error {
	d, err := v.open(dir)
	if err == nil {
		err = v.replace(d, dir, name, data, at)
	}
	if err != nil {
		return fmt.Errorf("replace %s on the boot partition: %w", name, err)
	}
	return nil
}

func (v *Volume) replace(d *folder, dir, name string, data []byte, at time.Time) error {
	f, found := d.find(name)
	switch {
	case !found:
		return v.create(dir, name, bytes.NewReader(data), int64(len(data)), at)
	case f.Folder || len(data) == 0:
		return fs.ErrInvalid
	}
	var old []uint32
	if f.Size > 0 {
		var err error
		if old, err = v.chain(f.first); err != nil {
			return err
		}
	}
	list, err := v.allocate((int64(len(data)) + v.clusterSize() - 1) / v.clusterSize())
	if err != nil {
		return err
	}
	if err := v.fill(list, bytes.NewReader(data), int64(len(data))); err != nil {
		return err
	}
	if err := v.link(chained(list)); err != nil {
		return err
	}
	if err := v.sameAs(list, data); err != nil {
		return err
	}
	slot := d.data[(f.at+f.n-1)*slotSize:][:slotSize]
	date, clock := dosTime(at)
	le.PutUint16(slot[20:], uint16(list[0]>>16))
	le.PutUint16(slot[22:], clock)
	le.PutUint16(slot[24:], date)
	le.PutUint16(slot[26:], uint16(list[0]))
	le.PutUint32(slot[28:], uint32(len(data)))
	if err := v.writeSlots(d, f.at+f.n-1); err != nil {
		return err
	}
	free := map[uint32]uint32{}
	for _, c := range old {
		free[c] = 0
	}
	if err := v.link(free); err != nil {
		return err
	}
	return v.noteFree()
}

// sameAs reads clusters back: after a sync they come from the disk.
func (v *Volume) sameAs(list []uint32, want []byte) error {
	got := make([]byte, len(want))
	if n, err := (&content{v: v, chain: list}).ReadAt(got, 0); n < len(got) {
		return err
	}
	if !bytes.Equal(got, want) {
		return errors.New("the disk does not give back what was written")
	}
	return nil
}
