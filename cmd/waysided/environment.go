package main

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/waysideos/wayside/services/manifest"
)

// environment is what a supervisor gives to a service, systemd's or ours.
// The zero value is a laptop: no supervisor, nobody to notify.
type environment struct {
	supervised     bool          // NOTIFY_SOCKET is set
	watchdog       time.Duration // WATCHDOG_USEC, if it is meant for this process; 0 is off
	stateDir       string        // STATE_DIRECTORY
	runtimeDir     string        // RUNTIME_DIRECTORY
	credentialsDir string        // CREDENTIALS_DIRECTORY
	start          string        // manifest.StartFD, of the first process of a service
	test           string        // WAYSIDE_TEST; see testCrash

	stdout, stderr io.Writer
	// notify sends one sd_notify message; it never waits for an answer.
	notify func(state string)
}

func processEnv() environment {
	env := environment{
		supervised:     os.Getenv("NOTIFY_SOCKET") != "",
		stateDir:       firstDir(os.Getenv("STATE_DIRECTORY")),
		runtimeDir:     firstDir(os.Getenv("RUNTIME_DIRECTORY")),
		credentialsDir: os.Getenv("CREDENTIALS_DIRECTORY"),
		stdout:         os.Stdout,
		stderr:         os.Stderr,
		notify:         func(state string) { _, _ = daemon.SdNotify(false, state) },
	}
	if env.supervised {
		env.start = os.Getenv(manifest.StartFD)
		env.test = os.Getenv("WAYSIDE_TEST")
		env.watchdog, _ = daemon.SdWatchdogEnabled(false)
	}
	return env
}

// awaitStart returns when the supervisor lets this process begin.
func (e environment) awaitStart() error {
	if e.start == "" {
		return nil
	}
	fd, err := strconv.Atoi(e.start)
	if err != nil {
		return fmt.Errorf("%s: %v", manifest.StartFD, err)
	}
	word := os.NewFile(uintptr(fd), "word to begin")
	defer word.Close()
	if _, err := io.ReadFull(word, make([]byte, 1)); err != nil {
		return fmt.Errorf("wait for the word to begin: %v", err)
	}
	return nil
}

// firstDir is the first of a colon-separated list (systemd.exec(5)).
func firstDir(list string) string {
	dir, _, _ := strings.Cut(list, ":")
	return dir
}

// logger writes text to stderr. A supervisor stamps the lines itself.
func (e environment) logger(name string) *slog.Logger {
	opts := &slog.HandlerOptions{}
	if e.supervised {
		opts.ReplaceAttr = func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}
	}
	return slog.New(slog.NewTextHandler(e.stderr, opts)).With("service", name)
}

// statusSocket is where the service answers about itself, "" for nowhere.
func (e environment) statusSocket(name, runDir string) string {
	switch {
	case e.runtimeDir != "":
		return filepath.Join(e.runtimeDir, manifest.StatusSock)
	case runDir != "" && !e.supervised:
		return filepath.Join(runDir, name, manifest.StatusSock)
	}
	return ""
}

// Test hooks. A test of the whole box has no shell inside it, and the way a
// box meets a crashing, hanging or lying service must be seen from outside. So a
// hypervisor may put "<service>:<word>" into the QEMU fw_cfg item
// opt/io.wayside/test.service; init hands the word on as WAYSIDE_TEST to that
// service's first start only, and "crashloop" to each. Who can set fw_cfg items
// owns the machine anyway; on real hardware there are none, and nothing that
// arrives over a network leads here.
const (
	testCrash     = "crash" // exit without a word, a moment after READY
	testCrashLoop = "crashloop"
	testHang      = "hang" // stop feeding the watchdog, a moment after READY
	testLie       = "lie"  // the broker alone: give other records than were produced

	// testMoment lets the supervisor and a test see the service ready first.
	testMoment = 2 * time.Second
	// testExit is EX_SOFTWARE: told apart from exits that mean something.
	testExit = 70
)

// lyingListener is the port of a broker that alters the update gate's records
// (services/updater/gate) on their way out, and no others.
type lyingListener struct{ net.Listener }

func (l lyingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return lyingConn{c}, err
}

type lyingConn struct{ net.Conn }

func (c lyingConn) Write(p []byte) (int, error) {
	// A record's key, after its length as a zigzag varint. The topic's name ends
	// in the same word.
	if at := bytes.Index(p, []byte("\x0ccanary")); at >= 0 && at+20 < len(p) {
		p = bytes.Clone(p)
		p[at+16] ^= 1 // of the value
	}
	return c.Conn.Write(p)
}
