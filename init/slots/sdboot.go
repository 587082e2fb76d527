//go:build linux

package slots

import (
	"context"
	"encoding/hex"
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

// SystemdBoot is the back end for UEFI boards: systemd-boot counts tries in
// the names of its entries.
type SystemdBoot struct {
	Log     *slog.Logger
	EFIVars string // where efivarfs is mounted, or would be
	Pin     verity.Pin
	// ESP calls use with the boot partition, which is not mounted meanwhile.
	ESP func(use func(d gpt.Disk, size int64) error) error
}

var _ Store = (*SystemdBoot)(nil)

// poll is how often the disks are looked at while the booted one is not there.
const poll = 50 * time.Millisecond

// patience is how long a disk may take to appear without a word on the
// console; USB disks take seconds.
const patience = 5 * time.Second

// Current implements Store.
func (s *SystemdBoot) Current(ctx context.Context) (*Slot, error) {
	words, err := ReadWords(os.DirFS(s.EFIVars))
	if err != nil {
		s.Log.Warn("the booted disk is looked for without the firmware's word", "err", err)
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
			return chooseSlot(disk, runtime.GOARCH, s.Pin, f)
		}
		if !errors.Is(err, errNoDisk) {
			return nil, err
		}
		if !told && time.Since(begin) > patience {
			told = true
			s.Log.Warn("waiting for the booted disk", "err", err)
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

// partition is the boot partition with what this boot's words say of it.
func (s *SystemdBoot) partition() (Partition, error) {
	words, err := ReadWords(os.DirFS(s.EFIVars))
	return Partition{ESP: s.ESP, Running: words.RunningFile(), RootHash: hex.EncodeToString(s.Pin.RootHash)}, err
}

// Look implements Store.
func (s *SystemdBoot) Look() (*Boot, error) {
	p, err := s.partition()
	if err != nil {
		return nil, err
	}
	return p.Look()
}

// Try implements Store.
func (s *SystemdBoot) Try(c Candidate) error {
	p, err := s.partition()
	if err != nil {
		return err
	}
	return p.Try(c)
}

// Settle implements Store.
func (s *SystemdBoot) Settle(v Verdict) error {
	p, err := s.partition()
	if err != nil {
		return err
	}
	return p.Settle(v)
}

// Install is Partition's.
func (s *SystemdBoot) Install(files []LoaderFile, now time.Time) (changed []string, err error) {
	return Partition{ESP: s.ESP}.Install(files, now)
}
