//go:build linux

package pid1

import (
	"os"
	"path/filepath"
	"testing"
)

// usbPort makes a USB serial port in a sysfs: file to content, below its device.
func usbPort(t *testing.T, sys, usb, iface, name string, files map[string]string) {
	t.Helper()
	device := filepath.Join(sys, "devices/usb1", usb, iface)
	if _, converter := files[filepath.Join(iface, name, "port_number")]; converter {
		device = filepath.Join(device, name)
	}
	if err := os.MkdirAll(device, 0o755); err != nil {
		t.Fatal(err)
	}
	for file, text := range files {
		if err := os.WriteFile(filepath.Join(sys, "devices/usb1", usb, file), []byte(text+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	class := filepath.Join(sys, "class/tty", name)
	if err := os.MkdirAll(class, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(device, filepath.Join(class, "device")); err != nil {
		t.Fatal(err)
	}
}

func TestSerialPortsKeepTheirNames(t *testing.T) {
	sys, links := t.TempDir(), filepath.Join(t.TempDir(), "serial")
	usbPort(t, sys, "1-2.3", "1-2.3:1.0", "ttyUSB0", map[string]string{
		"manufacturer": "FTDI", "product": "FT232R USB/UART", "serial": "A900",
		"1-2.3:1.0/bInterfaceNumber": "00", "1-2.3:1.0/ttyUSB0/port_number": "0",
	})
	usbPort(t, sys, "1-4", "1-4:1.2", "ttyACM0", map[string]string{"product": "Modem", "1-4:1.2/bInterfaceNumber": "02"})
	usbPort(t, sys, "pnp", "00:01", "ttyS1", nil)
	for _, name := range []string{"ttyUSB0", "ttyACM0", "ttyS1"} {
		linkSerial(sys, links, name)
	}
	want := map[string]string{
		"by-id/usb-FTDI_FT232R_USB_UART_A900-if00-port0": "../../ttyUSB0",
		"by-port/1-2.3-if00-port0":                       "../../ttyUSB0",
		"by-port/1-4-if02":                               "../../ttyACM0",
	}
	check := func() {
		t.Helper()
		found, _ := filepath.Glob(filepath.Join(links, "*", "*"))
		if len(found) != len(want) {
			t.Errorf("got the names %q, want %d", found, len(want))
		}
		for link, to := range want {
			if got, err := os.Readlink(filepath.Join(links, link)); got != to {
				t.Errorf("%s leads to %q (%v), want %q", link, got, err, to)
			}
		}
	}
	check()
	unlinkSerial(links, "ttyUSB0")
	for _, gone := range []string{"by-id/usb-FTDI_FT232R_USB_UART_A900-if00-port0", "by-port/1-2.3-if00-port0"} {
		delete(want, gone)
	}
	check()
}
