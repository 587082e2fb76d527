package site

import (
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Update is how the box takes new releases.
type Update struct {
	// Sources of releases, asked in this order: a URL, "usb" for any stick
	// that is plugged in, "box:HOST:PORT" for the status page of another box.
	Sources []string `yaml:"sources,omitempty"`
	Auto    string   `yaml:"auto,omitempty"` // off, prepare or install; default prepare
	// Window is when auto: install may switch: hours of a day, "02:00-04:00",
	// in Zone; default: at any time.
	Window string `yaml:"window,omitempty"`
	Zone   string `yaml:"time_zone,omitempty"` // IANA name; default UTC
	// TrialMinutes is how long a new version has to prove itself; default 10.
	TrialMinutes int `yaml:"trial_minutes,omitempty"`
	// SettleSeconds is how long all has to be well before it is kept; default 60.
	SettleSeconds int   `yaml:"settle_seconds,omitempty"`
	Share         *bool `yaml:"share,omitempty"` // other boxes may fetch from this one; default true
}

// What Update.Auto may be.
const (
	AutoOff     = "off"     // somebody asks for every step
	AutoPrepare = "prepare" // download, and wait to be told to switch
	AutoInstall = "install" // switch by itself, within the window
)

// Words of Update.Sources.
const (
	SourceUSB = "usb"
	SourceBox = "box:" // + host:port
)

const (
	defaultZone   = "UTC"
	defaultTrial  = 10
	defaultSettle = 60
	minTrial      = 2 // minutes: a box starts, and a check or two fit in
	maxTrial      = 240
)

func (u *Update) fill() {
	orString(&u.Auto, AutoPrepare)
	orString(&u.Zone, defaultZone)
	if u.TrialMinutes == 0 {
		u.TrialMinutes = defaultTrial
	}
	if u.SettleSeconds == 0 {
		u.SettleSeconds = defaultSettle
	}
	orBool(&u.Share, true)
}

func (c checker) update(path string, u *Update) {
	c.texts(path+".sources", u.Sources, updateSource)
	c.text(path+".auto", u.Auto, oneOf(AutoOff, AutoPrepare, AutoInstall))
	c.text(path+".window", u.Window, func(s string) fault {
		if _, err := ParseWindow(s); err != nil {
			return faultf("%q is no part of a day; want hours such as 02:00-04:00", shorten(s))
		}
		return fault{}
	})
	c.text(path+".time_zone", u.Zone, timeZone)
	if _, given := c.keys[path+".trial_minutes"]; given && (u.TrialMinutes < minTrial || u.TrialMinutes > maxTrial) {
		c.value(path+".trial_minutes", "", "want %d to %d minutes, got %d", minTrial, maxTrial, u.TrialMinutes)
		return
	}
	trial := u.TrialMinutes
	if trial == 0 {
		trial = defaultTrial
	}
	if _, given := c.keys[path+".settle_seconds"]; given && (u.SettleSeconds < 1 || u.SettleSeconds > trial*60-60) {
		c.value(path+".settle_seconds", "", "want 1 to %d seconds, a minute less than the trial, got %d", trial*60-60, u.SettleSeconds)
	}
}

func updateSource(s string) fault {
	if s == SourceUSB {
		return fault{}
	}
	if at, ok := strings.CutPrefix(s, SourceBox); ok {
		f := dialAddress(strings.TrimPrefix(DefaultConsoleListen, ":"))(at)
		if f.hint != "" {
			f.hint = SourceBox + f.hint
		}
		return f
	}
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https":
		return fault{"want a URL such as https://updates.example.com/wayside, usb, or box:HOST:PORT", nearest(s, []string{SourceUSB})}
	case u.Host == "":
		return faultf("%q has no host", shorten(s))
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return faultf("want a plain URL of a folder, without user, query or fragment")
	}
	return fault{}
}

// timeZone wants a known name where the machine knows any: init has no table
// of them, and must not refuse what the engineer's tool has let pass.
func timeZone(s string) fault {
	if bad := notIn(s, lower+upper+digits+"/_+-"); bad != "" || s == "Local" {
		return faultf("%q is no time zone; want one such as Europe/Berlin", shorten(s))
	}
	if _, err := time.LoadLocation("Europe/Berlin"); err != nil {
		return fault{}
	}
	if _, err := time.LoadLocation(s); err != nil {
		return faultf("time zone %q is unknown; want one such as Europe/Berlin", shorten(s))
	}
	return fault{}
}

// Window is a part of every day, From to To in minutes after midnight; it goes
// over midnight when To is not after From.
type Window struct{ From, To int }

// ParseWindow reads "HH:MM-HH:MM". The whole day is "00:00-00:00".
func ParseWindow(s string) (Window, error) {
	from, to, ok := strings.Cut(s, "-")
	if !ok {
		return Window{}, strconv.ErrSyntax
	}
	var w Window
	for i, text := range []string{from, to} {
		t, err := time.Parse("15:04", text)
		if err != nil {
			return Window{}, err
		}
		*[]*int{&w.From, &w.To}[i] = t.Hour()*60 + t.Minute()
	}
	return w, nil
}

// Contains says whether t, in its own time zone, is in the window.
func (w Window) Contains(t time.Time) bool {
	m := t.Hour()*60 + t.Minute()
	if w.From < w.To {
		return w.From <= m && m < w.To
	}
	return m >= w.From || m < w.To
}
