package console

import (
	"fmt"
	"time"

	"github.com/waysideos/wayside/services/manifest"
)

// Level says how much a finding matters.
type Level string

const (
	Note      Level = "note"      // worth knowing; nobody has to come
	Attention Level = "attention" // somebody should look; the box does its work
	Failing   Level = "failing"   // the box does not do its work; /healthz says 503
)

// Finding is one thing to know about the box, in plain words.
type Finding struct {
	Level Level  `json:"level"`
	Text  string `json:"text"`
}

const (
	lowDisk       = 0.10 // of a disk; below it somebody should look
	recentRestart = 15 * time.Minute
)

// judge turns what was seen into findings, the gravest first, and the
// headline. hasInit is false on a laptop, where only services are judged.
func (s *Snapshot) judge(hasInit bool) {
	var all []Finding
	add := func(l Level, format string, a ...any) {
		all = append(all, Finding{l, fmt.Sprintf(format, a...)})
	}
	if hasInit && s.Box == nil {
		add(Failing, "The system (init) cannot be asked: %s.", s.BoxError)
	}
	if s.Box != nil {
		s.judgeBox(add)
	}
	s.judgeReports(add)
	s.judgeUpdate(add)
	s.Findings = []Finding{}
	for _, level := range []Level{Failing, Attention, Note} {
		for _, f := range all {
			if f.Level == level {
				s.Findings = append(s.Findings, f)
			}
		}
	}
	s.OK = len(s.Findings) == 0 || s.Findings[0].Level != Failing
	s.Summary = headline(s.Findings)
}

func headline(findings []Finding) string {
	n := 0
	for _, f := range findings {
		if f.Level != Note {
			n++
		}
	}
	switch n {
	case 0:
		return "All is well"
	case 1:
		return "Something needs attention: " + findings[0].Text
	}
	return fmt.Sprintf("Something needs attention: %s And %d more:", findings[0].Text, n-1)
}

type adder func(l Level, format string, a ...any)

func (s *Snapshot) judgeBox(add adder) {
	b := s.Box
	switch b.Verity {
	case "ok":
	case "corrupted":
		add(Failing, "The system partition %s is damaged: what is on the disk is not what was signed. Replace the disk or write the image again.", b.Slot)
	default:
		add(Attention, "The system partition is not verified (verity %s).", orDash(b.Verity))
	}
	for _, svc := range b.Services {
		s.judgeService(add, svc)
	}
	if len(b.Profile.Errors) > 0 {
		add(Attention, "The new site profile was rejected; the box runs on %s.", profileSource(b.Profile.Source))
	}
	for _, n := range b.Network {
		if n.Problem != "" {
			add(Attention, "%s: %s.", n.Name, n.Problem)
		}
	}
	for _, d := range b.Disks {
		if d.Total > 0 && float64(d.Free) < lowDisk*float64(d.Total) {
			add(Attention, "The disk %s is nearly full: %s of %s free.", d.Mount, bytesText(d.Free), bytesText(d.Total))
		}
	}
	for _, p := range b.Problems {
		add(Attention, "Start-up: %s.", trimDot(p))
	}
	if !b.Clock.Synchronised {
		add(Note, "The clock has not been set by a time server (it comes from: %s).", orDash(b.Clock.Source))
	}
	if b.Watchdog == "" {
		add(Note, "There is no hardware watchdog.")
	}
}

func (s *Snapshot) judgeService(add adder, svc manifest.Service) {
	since := s.age(svc.Since)
	switch {
	case !svc.Ready && svc.LastExit != "":
		add(Failing, "%s is not ready: %s for %s, last exit: %s.", svc.Name, stateText(svc.State), durationText(since), svc.LastExit)
	case !svc.Ready:
		add(Failing, "%s is not ready: %s for %s.", svc.Name, stateText(svc.State), durationText(since))
	case svc.Restarts > 0 && since < recentRestart:
		add(Note, "%s was restarted %s ago (%s).", svc.Name, durationText(since), orDash(svc.LastExit))
	}
}

func (s *Snapshot) judgeReports(add adder) {
	for _, a := range s.Services {
		switch {
		case a.Report == nil && !a.absent:
			add(Attention, "%s %s.", a.Name, a.Error)
		case a.Report == nil && s.ready(a.Name):
			add(Attention, "%s is running but cannot be asked.", a.Name)
		case a.Report == nil:
		case !a.Report.OK:
			add(Attention, "%s: %s.", a.Name, trimDot(a.Report.Summary))
		}
		if a.Report == nil {
			continue
		}
		for _, d := range a.Report.Devices {
			if d.State == "down" {
				add(Attention, "The device of connector %s is away (%s): %s.", d.Name, durationText(s.age(d.Since)), trimDot(d.Error))
			}
			if d.Dropped > 0 {
				add(Attention, "Connector %s has lost %s records: its spool was full, or they could not be read; its log says which.", d.Name, countText(d.Dropped))
			}
			if d.Aside > 0 {
				add(Attention, "The broker refuses %s dead letters of connector %s, which are kept on the box: look at its topic for them.", countText(d.Aside), d.Name)
			}
		}
		for _, l := range a.Report.Links {
			if !l.Up {
				add(Attention, "The link to %s is down (%s), %s records wait.", l.Name, durationText(s.age(l.Since)), countText(l.Lag))
			}
		}
	}
}

// ready is what init says of a service.
func (s *Snapshot) ready(name string) bool {
	if s.Box != nil {
		for _, svc := range s.Box.Services {
			if svc.Name == name {
				return svc.Ready
			}
		}
	}
	return false
}

// age is how long ago t was. The clock of a box may be set long after it has
// started, so nothing on it is older than its uptime.
func (s *Snapshot) age(t time.Time) time.Duration {
	if t.IsZero() {
		return 0
	}
	d := max(0, s.Time.Sub(t))
	if s.Box != nil && s.Box.Uptime > 0 {
		d = min(d, secondsOf(s.Box.Uptime))
	}
	return d
}

// stateText says in words what init's states (init/supervise) mean; a state
// it does not know speaks for itself.
func stateText(state string) string {
	switch state {
	case "backoff":
		return "waiting to be started again"
	case "stopped":
		return "stopped, or waiting for another service"
	case "aborting", "killing":
		return "being killed"
	}
	return orDash(state)
}

func profileSource(source string) string {
	switch source {
	case "last good":
		return "the last good one"
	case "built in":
		return "the built-in one"
	}
	return orDash(source)
}
