package fat

import (
	"errors"
	"fmt"
)

// Twins returns the groups of names in a folder that share one content: what
// an interrupted rename leaves, the firmware's above all. Removing one of them
// by a driver that does not know frees the other's clusters.
func (v *Volume) Twins(dir string) ([][]File, error) {
	d, err := v.open(dir)
	if err != nil {
		return nil, err
	}
	by := map[uint32][]File{}
	for _, f := range d.files {
		if f.first != 0 {
			by[f.first] = append(by[f.first], f)
		}
	}
	var out [][]File
	for _, f := range d.files {
		if all := by[f.first]; len(all) > 1 && all[0].at == f.at {
			out = append(out, all)
		}
	}
	return out, nil
}

// Forget removes a name whose content another name has, or that has none.
func (v *Volume) Forget(dir, name string) error {
	d, err := v.open(dir)
	if err != nil {
		return err
	}
	f, found := d.find(name)
	if !found {
		return nil
	}
	return v.unname(d, f)
}

// ErrDamaged says that two files claim one cluster, or that a file's clusters
// make no sense: what is free can then not be told.
var ErrDamaged = errors.New("the boot partition's file system is damaged: copy its files away, format it, and copy them back")

// Reclaim frees clusters that belong to no file: those of a file whose
// writing, or removal, a power cut ended. It says how many bytes that were.
func (v *Volume) Reclaim() (int64, error) {
	m := &marker{v: v, used: make([]bool, v.clusters+2)}
	if err := m.chain(v.root); err != nil {
		return 0, err
	}
	if err := m.folder(v.root, 0); err != nil {
		return 0, err
	}
	free := map[uint32]uint32{}
	for c := uint32(2); c < v.clusters+2; c++ {
		if n := v.next(c); n != 0 && n != 0x0ffffff7 && !m.used[c] { // ...f7 is a bad cluster
			free[c] = 0
		}
	}
	if len(free) == 0 {
		return 0, v.noteFree()
	}
	if err := v.link(free); err != nil {
		return 0, err
	}
	return int64(len(free)) * v.clusterSize(), v.noteFree()
}

type marker struct {
	v     *Volume
	used  []bool
	nodes int
}

func (m *marker) folder(first uint32, depth int) error {
	d, err := m.v.readFolder(first)
	if err != nil || depth > maxDepth {
		return fmt.Errorf("%w (%v)", ErrDamaged, err)
	}
	for _, f := range d.files {
		if m.nodes++; m.nodes > maxNodes {
			return fmt.Errorf("the boot partition holds more than %d files", maxNodes)
		}
		if f.first == 0 {
			continue
		}
		if err := m.chain(f.first); err != nil {
			return err
		}
		if f.Folder {
			if err := m.folder(f.first, depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

func (m *marker) chain(first uint32) error {
	list, err := m.v.chain(first)
	if err != nil {
		return fmt.Errorf("%w (%v)", ErrDamaged, err)
	}
	for _, c := range list {
		if m.used[c] {
			return fmt.Errorf("%w (cluster %d is of two files)", ErrDamaged, c)
		}
		m.used[c] = true
	}
	return nil
}
