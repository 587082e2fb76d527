//go:build !linux

package qemu

import "syscall"

// dieWithParent cannot promise what its name says here: a QEMU whose parent
// is killed outright stays. It gets a process group of its own, so that
// Ctrl-C on the terminal is for us.
func dieWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
