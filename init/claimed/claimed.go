// Package claimed takes a box's claim from the boot partition over into the
// state partition. A power cut leaves the claim in one of them or in both; one
// that is refused is put aside, and the box does without.
package claimed

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path"
	"time"

	"github.com/waysideos/wayside/image/layout"
	"github.com/waysideos/wayside/init/gpt"
	"github.com/waysideos/wayside/services/claim"
	"github.com/waysideos/wayside/services/vfs"
)

// keptFile holds the claim in force, as it was on the boot partition, below the
// state partition.
const keptFile = "site/box.claim"

// Config says where claims are read and kept.
type Config struct {
	// ESP gives the boot partition, which is not mounted, to use.
	ESP   func(use func(d gpt.Disk, size int64) error) error
	State vfs.FS // the state partition; nil if it could not be mounted
	Owner []byte // the update root of this image; nil if it has none
	Now   time.Time
	// Hardware is asked once a claim was found good otherwise. An error is that
	// nobody can tell yet: the claim stays for the next start.
	Hardware func(*claim.Claim) (claim.Hardware, error)
	// Hold keeps the boot partition as it is: a version is on trial, and the one
	// before may know of no claims.
	Hold bool
	Log  *slog.Logger
}

// Load decides which claim is in force: a good one on the boot partition, else
// the one that was taken over, else none (nil). It says what went wrong, in
// words that tell nothing of secrets.
func Load(c Config) (now *claim.Claim, problems []string) {
	l := &loader{Config: c}
	l.complain(l.readKept())
	l.complain(l.look())
	if l.now != nil {
		c.Log.Info("claim: "+l.source, "name", l.now.Name, "issued", l.now.Issued.UTC().Format(time.RFC3339))
	}
	return l.now, l.problems
}

type loader struct {
	Config
	now      *claim.Claim
	source   string // of now
	kept     []byte // the file that was taken over; nil if there is none
	problems []string
}

func (l *loader) complain(err error) {
	if err != nil {
		l.problems = append(l.problems, err.Error())
	}
}

func (l *loader) readKept() error {
	text, err := readState(l.State)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		l.now, err = claim.Read(text) // its signature was checked when it came
	}
	if err != nil {
		return fmt.Errorf("the claim that was taken over is passed over: %v", err)
	}
	l.kept, l.source = text, "taken over before"
	return nil
}

// look deals with what is on the boot partition. Whoever can write that must not
// be able to end PID 1.
func (l *loader) look() (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("look for a claim: panic: %v", r)
		}
	}()
	return l.ESP(func(d gpt.Disk, size int64) error {
		b, err := openBoot(d, size)
		if err != nil {
			return fmt.Errorf("look for a claim: %w", err)
		}
		text, err := b.read()
		switch {
		case errors.Is(err, fs.ErrNotExist):
			if b.has(layout.ESPRefused) {
				return fmt.Errorf("a claim that was refused is on the boot partition, as %s: delete it, or call it %s to have it looked at again",
					layout.ESPRefused, path.Base(layout.ESPClaim))
			}
			return nil
		case err != nil:
			return fmt.Errorf("read %s of the boot partition: %w", layout.ESPClaim, err)
		}
		return l.found(b, text)
	})
}

// found deals with a claim on the boot partition.
func (l *loader) found(b *boot, text []byte) error {
	if l.kept != nil && (bytes.Equal(text, l.kept) || begun(text)) {
		return l.wipe(b) // the power went before that was done, or it was copied again
	}
	c, err := l.judge(text)
	if errors.Is(err, errUnsure) {
		return err
	}
	if err != nil {
		// These words are promised to whoever watches the console.
		rejected := fmt.Errorf("claim rejected: %s: %v", layout.ESPClaim, err)
		if l.Hold {
			return rejected
		}
		return errors.Join(rejected, b.putAside())
	}
	l.now, l.source = c, "boot partition"
	if l.Hold {
		l.Log.Info("claim: stays on the boot partition until the version on trial is kept")
		return nil
	}
	if err := keep(l.State, text); err != nil {
		return fmt.Errorf("keep the claim, which stays on the boot partition: %w", err)
	}
	return l.wipe(b)
}

func (l *loader) wipe(b *boot) error {
	if l.Hold {
		return nil
	}
	if err := b.wipe(layout.ESPClaim); err != nil {
		return fmt.Errorf("the claim was taken over, and its secrets are still on the boot partition: %w", err)
	}
	l.Log.Info("claim: taken over, and wiped from the boot partition")
	return nil
}

// errUnsure is of a claim of which this start cannot say whether it is for this
// box.
var errUnsure = errors.New("the claim stays on the boot partition and is looked at again at the next start")

// judge reads a claim and says why it is not for this box.
func (l *loader) judge(text []byte) (*claim.Claim, error) {
	c, err := claim.Open(text, l.Owner)
	if err != nil {
		return nil, err
	}
	if l.now != nil && !c.Issued.After(l.now.Issued) {
		return nil, fmt.Errorf("it was issued %s; the box has one for %s that is as new", c.Issued.UTC().Format(time.RFC3339), l.now.Name)
	}
	h, err := l.Hardware(c)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", errUnsure, err)
	}
	return c, c.For(h, l.Now)
}

// readState gives fs.ErrNotExist where there is no state partition.
func readState(state vfs.FS) ([]byte, error) {
	if state == nil {
		return nil, fs.ErrNotExist
	}
	return vfs.ReadWhole(state, keptFile, claim.MaxSize)
}

// keep makes text the claim in force. It is on stable storage when it returns.
func keep(state vfs.FS, text []byte) error {
	if state == nil {
		return errors.New("the state partition is not there")
	}
	return vfs.WriteWhole(state, keptFile, text)
}
