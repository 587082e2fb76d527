package disktest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Foreign is a disk that other people's tools have made: commands run one after
// the other, and file is what they leave. Those that only root has in its path
// are found as well.
func Foreign(file string, commands ...[]string) (*Disk, error) {
	for _, args := range commands {
		cmd := exec.Command(args[0], args[1:]...)
		if cmd.Err != nil {
			cmd = exec.Command(filepath.Join("/sbin", args[0]), args[1:]...)
		}
		if err := cmd.Run(); err != nil {
			return nil, fmt.Errorf("run %s: %v", args[0], err)
		}
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	d := New(int64(len(data)))
	zero := make([]byte, Sector)
	for off := 0; off < len(data); off += len(zero) {
		if s := data[off : off+len(zero)]; string(s) != string(zero) {
			if _, err := d.WriteAt(s, int64(off)); err != nil {
				return nil, err
			}
		}
	}
	return d, d.Sync()
}
