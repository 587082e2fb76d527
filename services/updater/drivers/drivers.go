// Package drivers finds what a release would leave this machine without: a
// driver of a device in use that its selection of kernel modules has dropped.
package drivers

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/erofs/go-erofs"
)

// Machine is what runs: its devices and the root it was started from.
type Machine struct {
	Sys  string // "/sys"
	Root fs.FS
}

// Device is one that has a driver now.
type Device struct {
	Use      string // what it is good for, by class and name: "net/eth0"
	Modalias string
	Module   string // of its driver; "" if that is part of the kernel and not named
}

func (d Device) String() string {
	if d.Module == "" {
		return fmt.Sprintf("%s (%s)", d.Use, d.Modalias)
	}
	return fmt.Sprintf("%s (%s, whose driver is %s)", d.Use, d.Modalias, d.Module)
}

// Lost are the devices in use that the running root has a driver for and the
// root next, an EROFS, has not. The controllers that a device hangs on count as
// well. What only the initramfs drives is not looked at: without it a box does
// not come up, and the loader counts.
func (m Machine) Lost(next io.ReaderAt) ([]Device, error) {
	devices, err := m.inUse()
	if err != nil || len(devices) == 0 {
		return nil, err
	}
	now, err := readModules(m.Root, devices)
	if err != nil {
		return nil, fmt.Errorf("read the modules of the running root: %w", err)
	}
	root, err := erofs.Open(next)
	if err != nil {
		return nil, fmt.Errorf("open the new root: %w", err)
	}
	then, err := readModules(root, devices)
	if err != nil {
		return nil, fmt.Errorf("read the modules of the new root: %w", err)
	}
	return slices.DeleteFunc(devices, func(d Device) bool { return !now.serve(d) || then.serve(d) }), nil
}

// classes are the kinds of device that a box may not lose, and which of a kind
// it uses.
var classes = []struct {
	name string
	used func(dir string) bool
}{
	{"net", func(dir string) bool { return word(dir, "operstate") != "down" }},
	{"block", func(dir string) bool { return word(dir, "removable") == "0" }}, // a partition does not say
	{"tty", always}, // adapters of serial lines
	{"watchdog", always},
	{"tpm", always},
}

func always(string) bool { return true }

// inUse are the devices in use, each modalias once.
func (m Machine) inUse() ([]Device, error) {
	if m.Sys == "" {
		return nil, nil
	}
	sys, err := filepath.EvalSymlinks(m.Sys)
	if err != nil {
		return nil, err
	}
	var out []Device
	for _, c := range classes {
		found, err := filepath.Glob(filepath.Join(sys, "class", c.name, "*"))
		if err != nil {
			return nil, err
		}
		for _, link := range found {
			dir, err := filepath.EvalSymlinks(link)
			if err != nil || !c.used(dir) { // gone meanwhile
				continue
			}
			for ; strings.HasPrefix(dir, sys+"/"); dir = filepath.Dir(dir) {
				d := Device{Use: c.name + "/" + filepath.Base(link), Modalias: word(dir, "modalias")}
				driver, err := filepath.EvalSymlinks(filepath.Join(dir, "driver"))
				if err != nil || d.Modalias == "" || slices.ContainsFunc(out, func(o Device) bool { return o.Modalias == d.Modalias }) {
					continue
				}
				if module, err := os.Readlink(filepath.Join(driver, "module")); err == nil {
					d.Module = filepath.Base(module)
				}
				out = append(out, d)
			}
		}
	}
	return out, nil
}

// word is the content of a file of sysfs, "" if it cannot be read.
func word(dir, name string) string {
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

var errNoModules = errors.New("it has no folder of kernel modules")
