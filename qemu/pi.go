package qemu

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/u-root/u-root/pkg/dt"

	"github.com/waysideos/wayside/boards"
	"github.com/waysideos/wayside/qemu/pifirmware"
)

// File names below Work of what a Raspberry Pi's firmware has picked.
const (
	piProgram = "pi-program.bin"
	piTree    = "pi-tree.dtb"
)

// piMachine is how QEMU's machine falls short of the model that it plays. The
// firmware's device tree is made to say so.
type piMachine struct {
	model pifirmware.Model
	// compatible is put before the model's own, so that a kernel image does not
	// take its tree for the real machine, and keeps this one.
	compatible string
	off        []string            // nodes, by name, that are not to be looked at
	drop       map[string][]string // properties of nodes that do not hold
	set        map[string]dt.Property
}

var piMachines = map[string]piMachine{
	"raspi3b": {
		model: pifirmware.Pi3B, compatible: "qemu,raspi3b",
		// QEMU's watchdog resets the machine as soon as it is armed.
		off: []string{"watchdog@7e100000"},
	},
	"raspi4b": {
		model: pifirmware.Pi4B, compatible: "qemu,raspi4b",
		// Not emulated: a look at them ends in a panic.
		off: []string{"watchdog@7e100000", "interrupt-controller@7ef00100", "i2c@7ef04500", "i2c@7ef09500", "hdmi@7ef00700",
			"hdmi@7ef05700", "clock@7ef00000", "hvs@7e400000", "txp@7e004000", "gpu@7ec00000", "gpu"},
		drop: map[string][]string{
			"mmc@7e300000":    {"mmc-pwrseq", "non-removable"}, // has the SD card, in the place of the Wi-Fi
			"serial@7e215040": {"clocks"},
		},
		set: map[string]dt.Property{
			// Where U-Boot looks for its environment, without which it starts the
			// USB controller and leaves it so that the kernel finds nothing on it.
			"aliases":      dt.PropertyString("mmc0", "/soc/mmc@7e300000"),
			"usb@7e980000": dt.PropertyString("dr_mode", "host"),
			// QEMU's mini UART knows no divisor latch: the divisor's high byte goes
			// to the register that enables interrupts. At the clock that QEMU's tree
			// of clocks comes to it is 2, an interrupt for room to send that nobody
			// asked for and nobody ends; at the one of a 3B it is 1, for input.
			"serial@7e215040": dt.PropertyU32("clock-frequency", 250_000_000),
		},
	},
}

func (c Config) isPi() bool { return c.Board.QEMU.Plays == boards.PlaysPi }

// preparePi plays the firmware on the disk as it is now.
func preparePi(c Config) error {
	m, known := piMachines[c.Board.QEMU.Machine]
	if !known {
		return fmt.Errorf("board %q: machine %q is none of a Raspberry Pi", c.Board.Slug, c.Board.QEMU.Machine)
	}
	name := c.Image // an overlay changes nothing that the firmware reads
	if c.Disk != DiskOverlay {
		name = c.diskPath()
	}
	f, err := os.Open(name)
	if err != nil {
		return fmt.Errorf("start the firmware: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	b, err := pifirmware.Start(f, st.Size(), m.model, false)
	if err != nil {
		return err
	}
	if b.Tree == nil || !b.UART {
		return fmt.Errorf("%s: QEMU's machine needs a device tree and the serial port, and the firmware finds tree %q, port %v (%q)",
			name, b.TreeName, b.UART, b.Notes)
	}
	tree, err := m.adapt(b.Tree)
	if err != nil {
		return fmt.Errorf("device tree %s: %v", b.TreeName, err)
	}
	return errors.Join(
		os.WriteFile(filepath.Join(c.Work, piProgram), b.Program, 0o600),
		os.WriteFile(filepath.Join(c.Work, piTree), tree, 0o600))
}

// adapt changes a device tree for QEMU's machine.
func (m piMachine) adapt(tree []byte) ([]byte, error) {
	t, err := dt.ReadFDT(bytes.NewReader(tree))
	if err != nil {
		return nil, err
	}
	own, found := t.RootNode.LookProperty("compatible")
	if !found {
		return nil, errors.New("it names no machine")
	}
	own.Value = append([]byte(m.compatible+"\x00"), own.Value...)
	err = t.RootNode.Walk(func(n *dt.Node) error {
		if slices.Contains(m.off, n.Name) {
			n.RemoveProperty("status")
			n.Properties = append(n.Properties, dt.PropertyString("status", "disabled"))
		}
		for _, p := range m.drop[n.Name] {
			n.RemoveProperty(p)
		}
		if p, found := m.set[n.Name]; found {
			n.RemoveProperty(p.Name)
			n.Properties = append(n.Properties, p)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	_, err = t.Write(&out)
	return out.Bytes(), err
}

// piArgs is the command line of a Raspberry Pi. One thread: the secondary
// processors wait in loops that would take the host's.
func (c Config) piArgs() ([]string, error) {
	if len(c.FWCfg) > 0 {
		return nil, fmt.Errorf("board %q has no fw_cfg to hand items over", c.Board.Slug)
	}
	network, err := c.networkArgs()
	if err != nil {
		return nil, err
	}
	args := append(c.machineArgs("-accel", "tcg,thread=single"),
		"-kernel", filepath.Join(c.Work, piProgram), "-dtb", filepath.Join(c.Work, piTree))
	args = append(args, c.controlArgs("null", "chardev:console")...)
	args = append(args, "-drive", "if=sd,"+c.sdCard())
	args = append(args, network...)
	return append(append(args, c.Board.QEMU.Extra...), c.Extra...), nil
}

// sdCard is the disk in the words of -drive: the machines' card slots take no
// other.
func (c Config) sdCard() string {
	file := escape(c.diskPath())
	switch c.Disk {
	case DiskCopy:
		return "driver=raw,file.driver=file,file.filename=" + file
	case DiskDropping:
		return fmt.Sprintf("driver=nbd,server.type=fd,server.str=%d", fdDisk)
	}
	return "driver=qcow2,file.driver=file,file.filename=" + file + ",backing.driver=raw,backing.file.driver=file,backing.file.filename=" + escape(c.Image)
}
