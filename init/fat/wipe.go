package fat

import "fmt"

// Wipe overwrites a file with zeros and removes it. The first sector goes
// first: a power cut leaves the file whole, or one that begins with a sector of
// zeros, which Wipe is to be asked of again, or none. What the medium keeps of
// blocks that were written over is beyond reach: flash writes elsewhere.
func (v *Volume) Wipe(dir, name string) error {
	if err := v.wipe(dir, name); err != nil {
		return fmt.Errorf("wipe %s of the boot partition: %w", name, err)
	}
	return v.Remove(dir, name)
}

func (v *Volume) wipe(dir, name string) error {
	d, err := v.open(dir)
	if err != nil {
		return err
	}
	f, found := d.find(name)
	if !found || f.Folder || f.Size == 0 {
		return nil // Remove knows
	}
	chain, err := v.chain(f.first)
	if err != nil {
		return err
	}
	zero := make([]byte, v.clusterSize())
	if _, err := v.d.WriteAt(zero[:sector], v.offset(chain[0])); err != nil {
		return err
	}
	if err := v.d.Sync(); err != nil {
		return err
	}
	for _, c := range chain {
		if _, err := v.d.WriteAt(zero, v.offset(c)); err != nil {
			return err
		}
	}
	return v.d.Sync()
}
