//go:build linux

package pid1

import (
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/waysideos/wayside/init/mount"
)

const (
	// stopServices is what all services together get to stop: the supervisor's
	// wait for those that stop first, TimeoutStopSec=20s of the others, and
	// KILL. Whatever runs then is killed with all other processes. With the
	// stages after it this stays below the 45 s that whoever pressed the power
	// button of a virtual machine waits.
	stopServices = 35 * time.Second
	stopOwned    = 5 * time.Second
)

// end takes the machine down in order: services, what PID 1 runs itself, all
// other processes, file systems. It does not return.
func (m *Machine) end(r request) {
	command, words := unix.LINUX_REBOOT_CMD_RESTART, "reboot: "+r.reason
	if r.action == actionPowerOff {
		command, words = unix.LINUX_REBOOT_CMD_POWER_OFF, "power off"
	}
	m.Log().Info(words, "reason", r.reason)
	m.Feeder.Last(stopServices + stopOwned + 3*m.resort.limit + 4*grace)
	m.endServe()
	select {
	case err := <-m.served:
		if err != nil {
			m.Log().Warn("stop services", "err", err)
		}
	case <-time.After(stopServices):
		m.Log().Error("services do not stop", "within", stopServices.String())
	}
	m.stop()
	wait(stopOwned, &m.owned)
	// Late: a version that cannot end in order has not earned its try back.
	m.resort.stage("give the try back", m.giveBack)
	m.resort.stage("release", m.resort.release)
	m.resort.stage("sync", m.resort.sync)
	m.Log().Info(words + " now")
	if err := m.resort.reboot(command); err != nil {
		m.resort.fail(words+" failed", err.Error())
	}
	m.resort.forever()
}

// wait returns when all of a group have, or after limit.
func wait(limit time.Duration, all *sync.WaitGroup) {
	done := make(chan struct{})
	go func() { all.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(limit):
	}
}

// release ends every process but this one and takes the file systems off
// their disks.
func (m *Machine) release() {
	m.endServe() // or the supervisor starts anew what is killed here
	if os.Getpid() != 1 {
		return // never the machine that a test runs on
	}
	for _, s := range []unix.Signal{unix.SIGTERM, unix.SIGKILL} {
		if !othersRun() {
			break
		}
		_ = unix.Kill(-1, s)
		for patience := time.Now().Add(2 * time.Second); othersRun() && time.Now().Before(patience); {
			time.Sleep(20 * time.Millisecond)
		}
	}
	_ = unix.Chdir("/")
	mount.UnmountAll(m.Log())
}

// othersRun says whether any process with a program of its own is there;
// threads of the kernel have none.
func othersRun() bool {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return false
	}
	for _, e := range entries {
		if name := e.Name(); name == "1" || strings.Trim(name, "0123456789") != "" {
			continue
		} else if _, err := os.Readlink("/proc/" + name + "/exe"); err == nil {
			return true
		}
	}
	return false
}

// reboot is reboot(2); command is LINUX_REBOOT_CMD_*.
func reboot(command int) error {
	if os.Getpid() != 1 {
		return os.ErrPermission // never the machine that a test runs on
	}
	return unix.Reboot(command)
}
