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
	Use      string `json:"use"` // what it is good for, by class and name: "net/eth0"
	Modalias string `json:"modalias"`
	Module   string `json:"module,omitempty"` // of its driver; "" if that is part of the kernel and not named
	Driver   string `json:"driver"`           // as the kernel calls it; often like the module
}

func (d Device) String() string {
	name := d.Module
	if name == "" {
		name = d.Driver
	}
	return fmt.Sprintf("%s (%s, whose driver is %s)", d.Use, d.Modalias, name)
}

// DrivenBy says whether one of the names is that of the device's driver, by
// its module or as the kernel calls it.
func (d Device) DrivenBy(names []string) bool {
	return slices.ContainsFunc(names, func(n string) bool {
		return n != "" && (normal(n) == normal(d.Module) || normal(n) == normal(d.Driver))
	})
}

// Release is one to compare with what runs.
type Release struct {
	Root io.ReaderAt // an EROFS
	UKI  io.ReaderAt // starts it
}

// Lost are the devices in use that the running root has a driver for and a
// release has not. The controllers that a device hangs on count as well. The
// release's initramfs is looked through for those of the disk that the running
// root lies on, slot by its partition's name ("vda2"). What is lost is told with
// an error too: it is of what could be read.
func (m Machine) Lost(next Release, slot string) ([]Device, error) {
	devices, err := m.InUse(slot)
	if err != nil || len(devices) == 0 {
		return nil, err
	}
	t, err := ofRoot(m.Root)
	if err != nil {
		return nil, fmt.Errorf("read the modules of the running root: %w", err)
	}
	now, err := readModules(t, devices)
	if err != nil {
		return nil, fmt.Errorf("read the modules of the running root: %w", err)
	}
	then, err := next.root(devices)
	if err != nil {
		return nil, err
	}
	early, err := next.early(devices)
	return slices.DeleteFunc(devices, func(d Device) bool {
		if strings.HasPrefix(d.Use, startOf) {
			return err != nil || !now.serve(d) || early.serve(d)
		}
		return !now.serve(d) || then.serve(d)
	}), err
}

func (r Release) root(devices []Device) (modules, error) {
	root, err := erofs.Open(r.Root)
	if err != nil {
		return modules{}, fmt.Errorf("open the new root: %w", err)
	}
	t, err := ofRoot(root)
	if err != nil {
		return modules{}, fmt.Errorf("read the modules of the new root: %w", err)
	}
	m, err := readModules(t, devices)
	if err != nil {
		return modules{}, fmt.Errorf("read the modules of the new root: %w", err)
	}
	return m, nil
}

func (r Release) early(devices []Device) (modules, error) {
	t, err := initramfs(r.UKI)
	if err != nil {
		return modules{}, err
	}
	return readModules(t, devices)
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

// startOf begins the use of what the start from a partition needs.
const startOf = "the start from "

// InUse are the devices in use, each modalias once for what runs and once more
// for the start from the partition slot.
func (m Machine) InUse(slot string) ([]Device, error) {
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
			for _, d := range chain(sys, dir, c.name+"/"+filepath.Base(link)) {
				if !slices.ContainsFunc(out, func(o Device) bool { return o.Modalias == d.Modalias }) {
					out = append(out, d)
				}
			}
		}
	}
	if dir, err := filepath.EvalSymlinks(filepath.Join(sys, "class/block", slot)); err == nil && slot != "" {
		out = append(out, chain(sys, dir, startOf+slot)...)
	}
	return out, nil
}

// chain are the devices from a folder of sysfs up that have a driver.
func chain(sys, dir, use string) (out []Device) {
	for ; strings.HasPrefix(dir, sys+"/"); dir = filepath.Dir(dir) {
		d := Device{Use: use, Modalias: word(dir, "modalias")}
		driver, err := filepath.EvalSymlinks(filepath.Join(dir, "driver"))
		if err != nil || d.Modalias == "" {
			continue
		}
		d.Driver = filepath.Base(driver)
		if module, err := os.Readlink(filepath.Join(driver, "module")); err == nil {
			d.Module = filepath.Base(module)
		}
		out = append(out, d)
	}
	return out
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
