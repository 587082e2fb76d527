//go:build linux

package pid1

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// dialout may open serial ports (overlays/base/rootfs/etc/group). The kernel
// makes their nodes root's alone, and there is no udev.
const dialout = 20

// serialLinks is where serial ports of USB have names that stay: ttyUSB0 is
// whichever came first. by-id names the device as udev does, by-port the socket
// that it is in, for devices without a number of their own.
const serialLinks = "/dev/serial"

// giveSerial lets the group dialout at a serial port that is no console.
func giveSerial(dev string) {
	name := filepath.Base(dev)
	serial := func(p string) bool { return strings.HasPrefix(name, p) }
	active, err := os.ReadFile("/sys/class/tty/console/active")
	if !slices.ContainsFunc([]string{"ttyS", "ttyUSB", "ttyACM", "ttyAMA"}, serial) ||
		err != nil || slices.Contains(strings.Fields(string(active)), name) {
		return
	}
	node := filepath.Join("/dev", name)
	if os.Chown(node, 0, dialout) == nil {
		_ = os.Chmod(node, 0o660)
	}
	linkSerial("/sys", serialLinks, name)
}

// linkSerial makes the names of a USB serial port; others have none.
func linkSerial(sys, links, name string) {
	device, err := filepath.EvalSymlinks(filepath.Join(sys, "class/tty", name, "device"))
	if err != nil {
		return
	}
	for _, link := range serialNames(device) {
		link = filepath.Join(links, link)
		_ = os.MkdirAll(filepath.Dir(link), 0o755)
		_ = os.Remove(link) // of the port before, or of one of the same name
		_ = os.Symlink(filepath.Join("../..", name), link)
	}
}

// unlinkSerial removes the names of a port that is gone.
func unlinkSerial(links, name string) {
	all, _ := filepath.Glob(filepath.Join(links, "*", "*"))
	for _, link := range all {
		if to, err := os.Readlink(link); err == nil && filepath.Base(to) == name {
			_ = os.Remove(link)
		}
	}
}

// serialNames are those of a port by its device in sysfs, below serialLinks: a
// converter's port ("…/1-2/1-2:1.0/ttyUSB0") or a modem's interface
// ("…/1-2/1-2:1.0").
func serialNames(device string) []string {
	port := 0
	iface := device
	if b, err := os.ReadFile(filepath.Join(device, "port_number")); err == nil {
		_, _ = fmt.Sscanf(string(b), "%d", &port)
		iface = filepath.Dir(device)
	}
	text := func(dir, file string) string {
		b, _ := os.ReadFile(filepath.Join(dir, file)) // "" where there is none
		return plainName(strings.TrimSpace(string(b)))
	}
	number := text(iface, "bInterfaceNumber")
	if number == "" {
		return nil // not on USB
	}
	suffix := "-if" + number
	if iface != device {
		suffix += fmt.Sprintf("-port%d", port)
	}
	usb := filepath.Dir(iface)
	names := []string{"by-port/" + filepath.Base(usb) + suffix}
	var words []string
	for _, file := range []string{"manufacturer", "product", "serial"} {
		if word := text(usb, file); word != "" {
			words = append(words, word)
		}
	}
	if text(usb, "serial") != "" { // without it two of a kind are one
		names = append(names, "by-id/usb-"+strings.Join(words, "_")+suffix)
	}
	return names
}

// plainName replaces what udev replaces in names.
func plainName(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x80 && (r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' || strings.ContainsRune("#+-.:=@_", r)) {
			return r
		}
		return '_'
	}, s)
}
