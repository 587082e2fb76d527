package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/waysideos/wayside/qemu"
)

// runReport tells a person, or with json a program, how a run goes.
type runReport struct {
	w         io.Writer
	json      bool
	mu        sync.Mutex // console lines come from QEMU's output
	begin     time.Time
	addresses map[string]string // nil until the machine is on
	over      bool
}

// runState is one line of --json.
type runState struct {
	State     string            `json:"state"`
	Addresses map[string]string `json:"addresses,omitempty"`
	Reason    string            `json:"reason,omitempty"`
}

func newRunReport(w io.Writer, asJSON bool) *runReport {
	return &runReport{w: w, json: asJSON, begin: time.Now()}
}

// log is where a build may print its progress.
func (r *runReport) log() io.Writer {
	if r.json {
		return io.Discard
	}
	return r.w
}

func (r *runReport) state(state string) { r.emit(runState{State: state}) }

func (r *runReport) emit(s runState) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.json {
		return
	}
	if s.Addresses == nil {
		s.Addresses = r.addresses
	}
	data, _ := json.Marshal(s) // strings only: cannot fail
	fmt.Fprintf(r.w, "%s\n", data)
}

// note prints a line with the time since the machine was switched on.
func (r *runReport) note(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.json || r.over {
		return
	}
	fmt.Fprintf(r.w, "  %6.1fs  %s\n", time.Since(r.begin).Seconds(), fmt.Sprintf(format, args...))
}

// booting starts the clock of the boot.
func (r *runReport) booting(vm *qemu.VM) {
	r.setAddresses(vm)
	r.state("booting")
	r.note("machine is on (%s, %d MiB)", strings.ToUpper(vm.Config().Accel), vm.Config().MemoryMiB)
}

func (r *runReport) setAddresses(vm *qemu.VM) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.begin = time.Now()
	r.addresses = map[string]string{}
	for _, f := range vm.Config().Forwards {
		r.addresses[f.Name] = f.Host
	}
	r.addresses["console"] = "http://" + r.addresses["console"]
}

func (r *runReport) ready() {
	r.state("ready")
	if r.json {
		return
	}
	r.note("ready")
	r.mu.Lock()
	defer r.mu.Unlock()
	kafka := onLocalhost(r.addresses["kafka"])
	fmt.Fprintf(r.w, `
  Kafka        %s
  MQTT         %s
  Status page  http://%s

  Try   kcat -b %s -L
  Stop  Ctrl-C

`, kafka, onLocalhost(r.addresses["mqtt"]), onLocalhost(strings.TrimPrefix(r.addresses["console"], "http://")), kafka)
}

// onLocalhost writes a loopback address the way people type it.
func onLocalhost(addr string) string {
	if _, port, err := net.SplitHostPort(addr); err == nil {
		return "localhost:" + port
	}
	return addr
}

// stopped is the last word. An error is printed by the program itself.
func (r *runReport) stopped(reason string) {
	if r.addresses != nil {
		r.note("stopped")
	}
	r.emit(runState{State: "stopped", Reason: reason})
	r.mu.Lock()
	defer r.mu.Unlock()
	r.over = true
}

// phases are the console lines that a person wants to see, with what is told
// of them; $1 stands for the first group, no text for a line of no interest.
// The first that matches counts. Brief ones are told once in a row.
var phases = []struct {
	pattern *regexp.Regexp
	text    string
	brief   bool
}{
	{regexp.MustCompile(`BdsDxe: starting \w+ "([^"]+)"`), "firmware starts $1", true},
	{regexp.MustCompile(`EFI stub: |Linux version `), "kernel starts", true},
	{regexp.MustCompile(`wayside: \S+: level=(DEBUG|INFO)`), "", false},
	{regexp.MustCompile(`wayside: ready\s*$`), "all services are ready", false},
	{regexp.MustCompile(`wayside: ([^\r]+)`), "$1", false},
	{regexp.MustCompile(`(Kernel panic - [^\r]+)`), "$1", false},
}

// console is a writer for the serial console that tells of phases.
func (r *runReport) console() io.Writer { return &phaseWriter{note: r.note, last: -1} }

type phaseWriter struct {
	note func(format string, args ...any)
	line []byte
	last int // index in phases of what was told last
}

func (p *phaseWriter) Write(b []byte) (int, error) {
	p.line = append(p.line, b...)
	for {
		line, rest, ok := bytes.Cut(p.line, []byte("\n"))
		if !ok {
			return len(b), nil
		}
		p.tell(line)
		p.line = rest
	}
}

func (p *phaseWriter) tell(line []byte) {
	for i, phase := range phases {
		loc := phase.pattern.FindSubmatchIndex(line)
		if loc == nil {
			continue
		}
		if phase.text != "" && (!phase.brief || p.last != i) {
			p.note("%s", phase.pattern.Expand(nil, []byte(phase.text), line, loc))
		}
		p.last = i
		return
	}
}
