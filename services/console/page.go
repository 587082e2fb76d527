package console

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"errors"
	"fmt"
	"html/template"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/waysideos/wayside/services/manifest"
)

//go:embed page.html
var pageSource string

// pageTemplate is parsed when it is needed: every service starts with this package.
var pageTemplate = sync.OnceValue(func() *template.Template { return template.Must(template.New("page").Parse(pageSource)) })

// view is what the page shows, in words: the template decides nothing.
type view struct {
	Class    string // of the headline: "good", "warn", "bad"
	Headline string
	More     []item // findings beside the headline's
	Site     string
	Version  string
	Box      []item
	Profile  []string // errors of a rejected profile
	Source   string   // the profile in force
	Services []serviceRow
	Links    []linkRow
	Networks []item
	Devices  []deviceRow
	Flows    []flowRow
	Disks    []diskRow
	Facts    []factGroup
	Update   *updateView
	Time     string
}

// item is a labelled value; Class colours it, "" does not.
type item struct{ Name, Value, Class string }

type serviceRow struct {
	Name, State, Class, Status, Since, Exit, Memory string
	Restarts                                        int
}

type linkRow struct{ Name, State, Class, Waiting, Error string }

type flowRow struct{ Service, From, To, Records, Bytes string }

type diskRow struct {
	Mount, Text string
	Used, Total int64
	Class       string
}

type factGroup struct {
	Service string
	Facts   []manifest.Fact
}

func render(w io.Writer, s *Snapshot) error {
	return pageTemplate().Execute(w, newView(s))
}

func newView(s *Snapshot) view {
	v := view{
		Headline: s.Summary, Class: "good", Site: "Wayside",
		Time: s.Time.UTC().Format("2006-01-02 15:04:05 UTC"),
	}
	for i, f := range s.Findings {
		switch {
		case f.Level == Failing:
			v.Class = "bad"
		case f.Level == Attention && v.Class == "good":
			v.Class = "warn"
		}
		if i > 0 || f.Level == Note {
			v.More = append(v.More, item{Value: f.Text, Class: string(f.Level)})
		}
	}
	if s.Box != nil {
		v.box(s)
	}
	v.services(s)
	v.update(s)
	for _, a := range s.Services {
		if a.Report != nil {
			v.report(s, a)
		}
	}
	return v
}

func (v *view) box(s *Snapshot) {
	b := s.Box
	if b.Profile.Site != "" {
		v.Site = b.Profile.Site
	}
	v.Version = b.Version
	v.Profile, v.Source = b.Profile.Errors, b.Profile.Source
	v.Box = []item{
		{Name: "Version", Value: b.Version},
		{Name: "Running from", Value: b.Slot},
		verityItem(b.Verity),
		secureBootItem(b.SecureBoot),
		encryptionItem(b.Encryption),
		{Name: "Site profile", Value: orDash(b.Profile.Source)},
		clockItem(b.Clock),
		{Name: "Running for", Value: durationText(secondsOf(b.Uptime))},
		{Name: "Memory", Value: fmt.Sprintf("%s free of %s", bytesText(b.Memory.Available), bytesText(b.Memory.Total))},
		{Name: "Board", Value: b.Board},
		{Name: "Kernel", Value: b.Kernel},
		{Name: "Watchdog", Value: orWord(b.Watchdog, "none")},
	}
	if c := b.Claim; c != nil {
		v.Box = slices.Insert(v.Box, 5, item{Name: "Claim", Value: c.Name + ", issued " + c.Issued.UTC().Format("2006-01-02 15:04")})
	}
	for _, n := range b.Network {
		v.Networks = append(v.Networks, networkItem(n))
	}
	for _, d := range b.Disks {
		row := diskRow{Mount: d.Mount, Used: max(0, d.Total-d.Free), Total: d.Total,
			Text: fmt.Sprintf("%s free of %s", bytesText(d.Free), bytesText(d.Total))}
		if float64(d.Free) < lowDisk*float64(d.Total) {
			row.Class = "warn"
		}
		v.Disks = append(v.Disks, row)
	}
}

func verityItem(state string) item {
	switch state {
	case "ok":
		return item{"System partition", "verified", "good"}
	case "corrupted":
		return item{"System partition", "damaged", "bad"}
	}
	return item{"System partition", "not verified", "warn"}
}

// secureBootItem has no colour where it is off: that is the owner's choice.
func secureBootItem(mode string) item {
	if mode == "on" {
		return item{"Secure Boot", mode, "good"}
	}
	return item{"Secure Boot", orWord(mode, "not on this machine"), ""}
}

func encryptionItem(how string) item {
	switch how {
	case "tpm":
		return item{"Data", "encrypted, opened by the TPM", "good"}
	case "recovery key":
		return item{"Data", "encrypted, opened by the recovery key", "warn"}
	case "locked":
		return item{"Data", "locked", "bad"}
	}
	return item{"Data", "not encrypted", ""}
}

func clockItem(c manifest.Clock) item {
	if c.Synchronised {
		return item{"Clock", "set by " + orDash(c.Source), "good"}
	}
	return item{"Clock", fmt.Sprintf("not set by a time server, from %s; not before %s",
		orDash(c.Source), c.Floor.UTC().Format("2006-01-02")), "warn"}
}

func networkItem(n manifest.Interface) item {
	if n.Problem != "" {
		return item{n.Name, n.Problem, "warn"}
	}
	if !n.Up {
		return item{n.Name, "no link", "warn"}
	}
	text := orWord(strings.Join(n.Addresses, ", "), "no address")
	if n.Gateway != "" {
		text += " via " + n.Gateway
	}
	if n.Source != "" {
		text += " (" + n.Source + ")"
	}
	if n.Uplink {
		text += ", the uplink"
	}
	return item{Name: n.Name, Value: text}
}

// services merges what init says of its services with what they say
// themselves. Without init only those that answered are shown.
func (v *view) services(s *Snapshot) {
	answers := map[string]Answer{}
	for _, a := range s.Services {
		answers[a.Name] = a
	}
	if s.Box == nil {
		for _, a := range s.Services {
			if !a.absent {
				v.Services = append(v.Services, reportRow(a))
			}
		}
		return
	}
	for _, svc := range s.Box.Services {
		row := serviceRow{
			Name: svc.Name, State: orDash(svc.State), Class: "good",
			Status: svc.Status, Since: durationText(s.age(svc.Since)), Exit: svc.LastExit,
			Restarts: svc.Restarts,
		}
		if svc.Memory > 0 {
			row.Memory = bytesText(svc.Memory)
		}
		a := answers[svc.Name]
		switch {
		case !svc.Ready:
			row.Class = "bad"
		case a.Report == nil:
			row.Class, row.Status = "warn", a.Error
		default:
			row.Status = a.Report.Summary
			if !a.Report.OK {
				row.Class = "warn"
			}
		}
		v.Services = append(v.Services, row)
	}
}

func reportRow(a Answer) serviceRow {
	switch {
	case a.Report == nil:
		return serviceRow{Name: a.Name, State: "silent", Class: "warn", Status: a.Error}
	case !a.Report.OK:
		return serviceRow{Name: a.Name, State: "running", Class: "warn", Status: a.Report.Summary}
	}
	return serviceRow{Name: a.Name, State: "running", Class: "good", Status: a.Report.Summary}
}

func (v *view) report(s *Snapshot, a Answer) {
	for _, l := range a.Report.Links {
		row := linkRow{Name: l.Name, State: "up", Class: "good", Waiting: countText(l.Lag), Error: l.Error}
		if !l.Up {
			row.State, row.Class = "down", "warn"
		}
		if age := s.age(l.Since); age > 0 {
			row.State += " for " + durationText(age)
		}
		v.Links = append(v.Links, row)
	}
	for _, d := range a.Report.Devices {
		v.Devices = append(v.Devices, deviceOf(s, d))
	}
	for _, f := range a.Report.Flows {
		v.Flows = append(v.Flows, flowRow{a.Name, f.From, f.To, countText(f.Records), bytesText(f.Bytes)})
	}
	if len(a.Report.Facts) > 0 {
		v.Facts = append(v.Facts, factGroup{a.Name, a.Report.Facts})
	}
}

// deviceRow is one connector.
type deviceRow struct {
	Name, Protocol, State, Class, Status, Records, Waiting string
}

func deviceOf(s *Snapshot, d manifest.Device) deviceRow {
	row := deviceRow{
		Name: d.Name, Protocol: d.Protocol, State: d.State, Class: "good", Status: orWord(d.Error, d.Detail),
		Records: countText(d.Records), Waiting: countText(d.Waiting),
	}
	if d.State != "up" {
		row.Class = "warn"
	}
	if age := s.age(d.Since); age > 0 {
		row.State += " for " + durationText(age)
	}
	if d.Error != "" {
		row.Status = d.Error
	}
	if d.Dropped > 0 {
		row.Waiting += ", " + countText(d.Dropped) + " lost"
	}
	return row
}

// contentPolicy allows the page its one style sheet, by its hash, and
// nothing else in the world.
func contentPolicy() (string, error) {
	var buf bytes.Buffer
	if err := render(&buf, &Snapshot{}); err != nil {
		return "", fmt.Errorf("render the status page: %v", err)
	}
	_, rest, ok := strings.Cut(buf.String(), "<style>")
	style, _, end := strings.Cut(rest, "</style>")
	if !ok || !end {
		return "", errors.New("render the status page: it has no style sheet")
	}
	sum := sha256.Sum256([]byte(style))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
		"'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'", nil
}
