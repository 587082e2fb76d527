//go:build linux

package slots

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/waysideos/wayside/init/gpt"
	"github.com/waysideos/wayside/init/verity"
)

// poll is how often the disks are looked at while the booted one is not there.
const poll = 50 * time.Millisecond

// patience is how long a disk may take to appear without a word on the
// console; USB disks take seconds.
const patience = 5 * time.Second

// findBooted waits for the disk that the firmware's words name and finds the
// slot on it that runs.
func findBooted(ctx context.Context, log *slog.Logger, efivars string, pin verity.Pin) (*Slot, error) {
	words, err := ReadWords(os.DirFS(efivars))
	if err != nil {
		log.Warn("the booted disk is looked for without the firmware's word", "err", err)
	}
	begin, told := time.Now(), false
	for {
		disk, err := chooseDisk(readDisks(), runtime.GOARCH, words.PartUUID)
		if err == nil {
			f, err := os.Open("/dev/" + disk.Name)
			if err != nil {
				return nil, fmt.Errorf("open the booted disk: %w", err)
			}
			defer f.Close()
			return chooseSlot(disk, runtime.GOARCH, pin, f)
		}
		if !errors.Is(err, errNoDisk) {
			return nil, err
		}
		if !told && time.Since(begin) > patience {
			told = true
			log.Warn("waiting for the booted disk", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for the booted disk: %w", err)
		case <-time.After(poll):
		}
	}
}

// virtual are block devices that no machine boots from, by prefix.
var virtual = []string{"loop", "ram", "zram", "dm-", "md", "sr", "fd", "nbd"}

// readDisks reads the table of every disk. Disks without one, or not yet
// readable, are left out; they are looked at again.
func readDisks() []Disk {
	entries, err := os.ReadDir("/sys/block")
	if err != nil {
		return nil
	}
	var out []Disk
next:
	for _, e := range entries {
		for _, p := range virtual {
			if strings.HasPrefix(e.Name(), p) {
				continue next
			}
		}
		if t, err := readTable("/dev/" + e.Name()); err == nil {
			out = append(out, Disk{e.Name(), t})
		}
	}
	return out
}

func readTable(node string) (*gpt.Table, error) {
	f, err := os.Open(node)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	return gpt.Read(f, uint64(size)/gpt.Sector)
}
