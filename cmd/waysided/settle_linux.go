package main

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// letGoOfStart unmaps the pages of the program that are mapped by now, most of
// which only the start needed: every package of every service is initialised in
// each of them. It is called before a service starts, so that they are not
// there beside the most that it ever takes, and when it is ready. They stay in
// the page cache, and what is used comes back by a fault. Only mappings that
// cannot be written to are touched, and none of a position-independent program:
// the loader has written to some of those.
func letGoOfStart() {
	const lowest = 1 << 32 // of what a loader may place
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return
	}
	for line := range strings.Lines(string(maps)) {
		var from, to uintptr
		var mode string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &from, &to, &mode); err != nil || mode[1] == 'w' || uint64(from) >= lowest || !strings.HasSuffix(strings.TrimSpace(line), " "+exe) {
			continue
		}
		_, _, _ = unix.Syscall(unix.SYS_MADVISE, from, to-from, unix.MADV_DONTNEED)
	}
}
