package qemu

import (
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/waysideos/wayside/image/layout"
)

// File descriptors that QEMU inherits. Sockets without a path leave nothing
// behind and know no limit on the length of a path.
const (
	fdQMP  = 3
	fdDisk = 4
	fdTPM  = 5
)

// Args is the command line, without the program. It depends on nothing but
// the configuration. Accel must be "kvm" or "tcg" and every forward must have
// its port: Start sees to both.
func (c Config) Args() ([]string, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	if c.isPi() {
		return c.piArgs()
	}
	accel, err := c.accelArgs()
	if err != nil {
		return nil, err
	}
	network, err := c.networkArgs()
	if err != nil {
		return nil, err
	}
	q := c.Board.QEMU
	args := c.machineArgs(accel...)
	args = append(args, c.firmwareArgs()...)
	args = append(args, c.controlArgs("chardev:console")...)
	args = append(args, c.diskArgs()...)
	args = append(args, network...)
	args = append(args, "-device", "virtio-rng-pci")
	if q.Watchdog != "" {
		args = append(args, "-device", q.Watchdog, "-action", "watchdog=reset")
	}
	args = append(args, c.tpmArgs()...)
	args = append(args, c.fwCfgArgs()...)
	args = append(args, q.Extra...)
	return append(args, c.Extra...), nil
}

// machineArgs begin every command line.
func (c Config) machineArgs(accel ...string) []string {
	args := append([]string{
		"-name", "wayside-" + escape(c.Board.Slug),
		"-no-user-config", "-nodefaults",
		"-machine", c.machineArg(),
	}, accel...)
	return append(args,
		"-smp", strconv.Itoa(c.SMP),
		"-m", strconv.Itoa(c.MemoryMiB),
		"-display", "none",
	)
}

// controlArgs connect the serial ports, one of them to the console, and the
// control socket.
func (c Config) controlArgs(serial ...string) []string {
	args := []string{"-chardev", "stdio,id=console,signal=off"}
	for _, port := range serial {
		args = append(args, "-serial", port)
	}
	return append(args,
		"-chardev", fmt.Sprintf("socket,id=qmp,fd=%d", fdQMP),
		"-mon", "chardev=qmp,mode=control",
	)
}

func (c Config) accelArgs() ([]string, error) {
	switch c.Accel {
	case "kvm":
		return []string{"-accel", "kvm", "-cpu", "host"}, nil
	case "tcg":
		return []string{"-accel", "tcg,thread=multi", "-cpu", c.Board.QEMU.CPU}, nil
	}
	return nil, fmt.Errorf("accelerator %q: a command line needs kvm or tcg", c.Accel)
}

// guardsVariables says that the firmware keeps its variables for itself in
// system management mode, which only x86 has.
func (c Config) guardsVariables() bool {
	return c.SecureBoot != nil && c.Board.QEMU.System == "x86_64"
}

// machineArg leaves an x86 machine no system management mode, which is there
// unless it is told so, if its firmware does not use it: one suspect fewer
// where timers stop.
func (c Config) machineArg() string {
	switch {
	case c.guardsVariables():
		return c.Board.QEMU.Machine + ",smm=on"
	case c.Board.QEMU.System == "x86_64":
		return c.Board.QEMU.Machine + ",smm=off"
	}
	return c.Board.QEMU.Machine
}

func (c Config) firmwareArgs() []string {
	code := c.Firmware.Code
	var args []string
	if c.SecureBoot != nil {
		code = c.Firmware.SecureCode
	}
	if c.guardsVariables() {
		args = []string{"-global", "driver=cfi.pflash01,property=secure,value=on"}
	}
	args = append(args, "-drive", "if=pflash,format=raw,unit=0,readonly=on,file="+escape(code))
	if c.Firmware.Vars != "" {
		args = append(args, "-drive", "if=pflash,format=raw,unit=1,file="+escape(c.varsPath()))
	}
	return args
}

// diskArgs names every node, the overlay's backing file among them, so that
// nothing depends on a path that a qcow2 header remembers.
func (c Config) diskArgs() []string {
	file := escape(c.diskPath())
	var nodes []string
	switch c.Disk {
	case DiskOverlay:
		nodes = []string{
			"driver=file,node-name=image-file,read-only=on,filename=" + escape(c.Image),
			"driver=raw,node-name=image,read-only=on,file=image-file",
			"driver=file,node-name=disk-file,discard=unmap,filename=" + file,
			"driver=qcow2,node-name=disk,discard=unmap,file=disk-file,backing=image",
		}
	case DiskCopy:
		nodes = []string{
			"driver=file,node-name=disk-file,discard=unmap,filename=" + file,
			"driver=raw,node-name=disk,discard=unmap,file=disk-file",
		}
		if c.WriteLog != "" {
			nodes[1] = "driver=raw,node-name=disk-raw,discard=unmap,file=disk-file"
			nodes = append(nodes, "driver=file,node-name=log-file,filename="+escape(c.WriteLog),
				"driver=blklogwrites,node-name=disk,file=disk-raw,log=log-file,log-super-update-interval=1")
		}
	case DiskDropping:
		nodes = []string{fmt.Sprintf("driver=nbd,node-name=disk,server.type=fd,server.str=%d", fdDisk)}
	}
	var args []string
	for _, n := range nodes {
		args = append(args, "-blockdev", n)
	}
	if c.Board.QEMU.Bus != "" {
		args = append(args, "-device", c.Board.QEMU.Bus)
	}
	disk := c.Board.QEMU.Disk + ",drive=disk"
	if !strings.HasPrefix(disk, "sd-card") && !strings.HasPrefix(disk, "emmc") { // which know no order
		disk += ",bootindex=0"
	}
	return append(args, "-device", disk)
}

// networkArgs gives the NIC no option ROM: with one, OVMF tries to boot from
// the network for 100 s when the disk does not boot.
func (c Config) networkArgs() ([]string, error) {
	netdev := "user,id=net"
	if c.Isolated {
		netdev += ",restrict=on"
	}
	for _, f := range c.Forwards {
		host, port, err := net.SplitHostPort(f.Host)
		if err != nil {
			return nil, fmt.Errorf("forward %s: host address %q is not host:port", f.Name, f.Host)
		}
		netdev += fmt.Sprintf(",hostfwd=tcp:%s:%s-:%d", host, port, f.Guest)
	}
	device := c.Board.QEMU.NIC + ",netdev=net"
	if !c.isPi() { // whose NIC is a USB device
		device += ",romfile="
	}
	return []string{"-netdev", netdev, "-device", device}, nil
}

func (c Config) tpmArgs() []string {
	if !c.TPM {
		return nil
	}
	return []string{
		"-chardev", fmt.Sprintf("socket,id=tpm-socket,fd=%d", fdTPM),
		"-tpmdev", "emulator,id=tpm,chardev=tpm-socket",
		"-device", c.Board.QEMU.TPM + ",tpmdev=tpm",
	}
}

func (c Config) fwCfgArgs() []string {
	items := maps.Clone(c.FWCfg)
	if f, err := c.forward(c.Advertised); err == nil {
		if items == nil {
			items = map[string]string{}
		}
		items[layout.FWCfgAdvertised] = f.Host
	}
	var args []string
	for _, name := range slices.Sorted(maps.Keys(items)) {
		args = append(args, "-fw_cfg", "name="+name+",string="+escape(items[name]))
	}
	return args
}

// escape makes text safe as a value in QEMU's comma-separated options.
func escape(s string) string { return strings.ReplaceAll(s, ",", ",,") }
