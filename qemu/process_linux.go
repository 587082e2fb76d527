package qemu

import "syscall"

// dieWithParent has the kernel kill QEMU when this process ends, however it
// ends. QEMU gets a process group of its own: Ctrl-C on the terminal is for
// us, who then shut the guest down.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}
