//go:build linux

// Command init is process 1 of the initramfs and of the root. It is also what
// PID 1 needs beside itself: the kernel's module loader and, by package become,
// the process that becomes a service.
package main

import (
	"fmt"
	"os"

	"github.com/waysideos/wayside/init/modules"
	"github.com/waysideos/wayside/init/pid1"
)

func main() {
	switch {
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
