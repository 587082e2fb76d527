package main

import (
	"errors"
	"fmt"
	"strings"
)

// blockDisk is a disk of this computer.
type blockDisk struct {
	Device    string   `json:"device"` // "/dev/sdb"
	Model     string   `json:"model,omitempty"`
	Size      int64    `json:"size_bytes"`
	Sector    int      `json:"sector_bytes"`
	Removable bool     `json:"removable"`
	ReadOnly  bool     `json:"read_only,omitempty"`
	System    bool     `json:"system,omitempty"` // this computer runs from it
	Uses      []string `json:"uses,omitempty"`   // "/media/usb on sdb1"

	mounts []string // where its file systems are mounted
}

// what says which disk it is, for a person who is about to lose it.
func (d blockDisk) what() string {
	words := []string{strings.Join(strings.Fields(d.Model), " "), mib(d.Size)}
	if words[0] == "" {
		words = words[1:]
	}
	return strings.Join(append(words, d.Uses...), ", ")
}

// words are what --force wants: they name the disk as it is now, so that they
// do not fit another one tomorrow.
func (d blockDisk) words() string { return "destroy " + d.Device + ": " + d.what() }

// judge refuses a disk that an image of size bytes cannot go to, or that
// nobody should overwrite by mistake.
func (d blockDisk) judge(size int64, force string) error {
	refuse := func(format string, args ...any) error {
		return fmt.Errorf("%s is refused: %s", d.Device, fmt.Sprintf(format, args...))
	}
	switch {
	case d.ReadOnly:
		return refuse("it is read-only; a card may have a switch at its side")
	case d.Size < size:
		return refuse("it has %s, the image needs %s", mib(d.Size), mib(size))
	case d.Sector != 512:
		return refuse("it has sectors of %d bytes, and images are made for 512", d.Sector)
	case d.System && force != "":
		return refuse("this computer runs from it (%s); start it from another medium", strings.Join(d.Uses, ", "))
	}
	var why []string
	if len(d.Uses) > 0 {
		why = append(why, "it is in use ("+strings.Join(d.Uses, ", ")+")")
	}
	if !d.Removable {
		why = append(why, "it is not removable")
	}
	if d.System {
		why = append(why, "this computer runs from it")
	}
	switch {
	case len(why) == 0 && force == "", force != "" && force == d.words():
		return nil
	case force != "":
		return refuse("--force wants other words: --force %q", d.words())
	case d.System:
		return refuse("%s", strings.Join(why, " and "))
	}
	return refuse("%s; to overwrite it all the same, give --force %q", strings.Join(why, " and "), d.words())
}

// errNoDisk says that a name is no disk's.
var errNoDisk = errors.New("it is no disk")
