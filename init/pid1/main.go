//go:build linux

package pid1

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/waysideos/wayside/init/verity"
)

// Main is process 1. It never returns.
func Main() {
	m := newMachine(inInitramfs)
	defer m.resort.fail("the main loop ended", "")
	defer m.lastly("main")
	signals := catchSignals()
	if err := run(m.background, m, slices.Concat(Initramfs, Root)); err != nil {
		m.giveUp(err)
	}
	m.serve(signals)
}

// giveUp ends a boot that cannot go on.
func (m *Machine) giveUp(err error) {
	var f *failure
	if errors.As(err, &f) {
		m.resort.fail(f.step+" failed", f.err.Error())
	}
	m.resort.fail("the boot failed", err.Error())
}

// catchSignals takes every signal whose default in Go is to end the process.
// They are caught, not ignored: what is ignored stays so in the services,
// which then could not be told to stop.
func catchSignals() <-chan os.Signal {
	c := make(chan os.Signal, 8)
	signal.Notify(c, unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2,
		unix.SIGPIPE, unix.SIGALRM, unix.SIGPWR, unix.SIGXCPU, unix.SIGXFSZ, unix.SIGVTALRM, unix.SIGPROF)
	return c
}

type action int

const (
	actionReboot action = iota
	actionPowerOff
)

// request asks for an orderly end.
type request struct {
	action action
	reason string
}

// request queues the wish; a second one while the first is served is lost.
func (m *Machine) request(a action, reason string) {
	select {
	case m.requests <- request{a, reason}:
	default:
	}
}

const (
	turn = time.Second
	// lease is what one turn of the main loop wins from the watchdog.
	lease = 15 * time.Second
	// staleHeartbeat is how old the supervision's sign of life may be.
	staleHeartbeat = 15 * time.Second
	verityTurns    = 3
	// staleTurn is how old a turn may be that still shows progress.
	staleTurn = 5 * time.Second
)

// serve is the main loop: it lives until the machine is to end.
func (m *Machine) serve(signals <-chan os.Signal) {
	m.phase = "main-loop"
	tick := time.NewTicker(turn)
	defer tick.Stop()
	ready, served := m.services.Ready(), (<-chan error)(m.served)
	for n := 0; ; n++ {
		m.hangIf("a turn")
		if time.Since(m.services.Heartbeat()) < staleHeartbeat {
			m.Feeder.Extend(lease)
			m.turned.Store(int64(time.Since(m.booted)))
		}
		if n%verityTurns == 0 {
			m.verityState()
		}
		select {
		case <-tick.C:
		case <-ready:
			ready = nil
			close(m.ready)
			m.Log().Info("ready", "uptime", fmt.Sprintf("%.1fs", uptime().Seconds()))
			m.Go("trial", m.servicesReady)
			m.tellSpent()
		case r := <-m.requests:
			m.end(r)
		case s := <-signals:
			if s == unix.SIGINT { // from the kernel, see settings
				m.end(request{actionReboot, "ctrl-alt-del"})
			}
		case err := <-served:
			if err == nil && len(m.services.Status()) == 0 {
				m.served <- nil // an image without services; end takes it
				served = nil
				continue
			}
			m.resort.fail("supervision of the services ended", fmt.Sprint(err))
		}
	}
}

// turning is nil while the main loop makes progress.
func (m *Machine) turning() error {
	at := time.Duration(m.turned.Load())
	if still := time.Since(m.booted) - at; at == 0 || still > staleTurn {
		return fmt.Errorf("init itself makes no progress since %s: if that lasts, the watchdog ends it", still.Round(time.Second))
	}
	return nil
}

// verityState asks the kernel whether it has met a bad block.
func (m *Machine) verityState() {
	state := "off"
	if bad, err := verity.Corrupted(); err == nil && bad {
		state = "corrupted"
	} else if err == nil {
		state = "ok"
	}
	m.mu.Lock()
	was := m.verity
	m.verity = state
	m.mu.Unlock()
	if state == "corrupted" && was != state {
		m.problem("root corrupted: a block of slot " + m.role + " failed verification; what lies on it cannot be read")
	}
}
