//go:build linux

package pid1

import (
	"context"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/waysideos/wayside/init/mount"
)

const (
	// stopServices is what all services together get to stop; each has its
	// own deadline and is killed after it.
	stopServices = 100 * time.Second
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
	m.Feeder.Extend(stopServices + stopOwned + 2*m.resort.limit + 4*grace)
	m.endServe()
	wait(stopServices, func(done chan<- struct{}) {
		if err := <-m.served; err != nil {
			m.Log().Warn("stop services", "err", err)
		}
		close(done)
	})
	m.stop()
	wait(stopOwned, func(done chan<- struct{}) { m.owned.Wait(); close(done) })
	m.resort.stage("release", m.release)
	m.resort.stage("sync", m.resort.sync)
	m.Log().Info(words + " now")
	if err := unix.Reboot(command); err != nil {
		m.resort.fail(words+" failed", err.Error())
	}
	m.resort.forever()
}

// wait returns when done is closed, or after limit.
func wait(limit time.Duration, run func(done chan<- struct{})) {
	done := make(chan struct{})
	go run(done)
	select {
	case <-done:
	case <-time.After(limit):
	}
}

// release ends every process but this one and takes the file systems off
// their disks.
func (m *Machine) release() {
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

// restart is the failure path's reboot.
func restart() error {
	if os.Getpid() != 1 {
		return context.Canceled
	}
	return unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
}
