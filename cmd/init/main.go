//go:build linux

// Command init is process 1 of the initramfs and of the root. Under other
// names it is what PID 1 needs beside itself: the shim that becomes a
// service, and the kernel's module loader.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/waysideos/wayside/init/modules"
	"github.com/waysideos/wayside/init/pid1"
	"github.com/waysideos/wayside/init/supervise"
)

func main() {
	switch {
	case filepath.Base(os.Args[0]) == "wayside-exec":
		supervise.ExecMain(os.Args)
	case os.Getpid() == 1:
		pid1.Main()
	case len(os.Args) > 1 && os.Args[1] == "-q": // as the kernel calls modprobe
		if err := modules.Modprobe(os.Args[1:]); err != nil {
			os.Exit(1)
		}
	default:
		fmt.Fprintln(os.Stderr, "init: runs as process 1 of a Wayside box only")
		os.Exit(2)
	}
}
