package syslog

import (
	"encoding/json"
	"net"
	"strconv"
	"strings"
	"time"

	gosyslog "github.com/leodido/go-syslog/v4"
	"github.com/leodido/go-syslog/v4/auto"
	"github.com/leodido/go-syslog/v4/rfc3164"
	"github.com/leodido/go-syslog/v4/rfc5424"

	"github.com/waysideos/wayside/services/connect"
)

// timeFormat is RFC 3339 with milliseconds, as in the records of readings.
const timeFormat = "2006-01-02T15:04:05.000Z07:00"

// message is the value of a record.
type message struct {
	Facility       string                       `json:"facility,omitempty"`
	Severity       string                       `json:"severity,omitempty"`
	Time           string                       `json:"time"` // of the sender, else of the box
	BoxTime        string                       `json:"box_time"`
	Hostname       string                       `json:"hostname,omitempty"`
	App            string                       `json:"app,omitempty"`
	Process        string                       `json:"process,omitempty"`
	ID             string                       `json:"id,omitempty"`
	StructuredData map[string]map[string]string `json:"structured_data,omitempty"`
	Message        string                       `json:"message"`
	Source         string                       `json:"source"`             // address of the sender
	Unparsed       bool                         `json:"unparsed,omitempty"` // it follows neither RFC
}

// Severities and facilities by number (RFC 5424, 6.2.1).
var (
	severities = []string{"emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"}
	facilities = []string{
		"kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp",
		"ntp", "audit", "alert", "clock", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
	}
)

// parser reads messages of RFC 5424 and RFC 3164. It is not for two
// goroutines at once.
type parser struct {
	machine gosyslog.Machine
	zone    *time.Location
	raw     bool
}

func newParser(zone *time.Location, raw bool) *parser {
	old := []gosyslog.MachineOption{
		rfc3164.WithYear(rfc3164.CurrentYear{}), rfc3164.WithLocaleTimezone(zone), rfc3164.WithRFC3339(),
		rfc3164.WithSecondFractions(), rfc3164.WithLenientDay(), rfc3164.WithEmbeddedNewlines(),
	}
	return &parser{machine: auto.NewMachine(auto.WithRFC3164Options(old...)), zone: zone, raw: raw}
}

// record makes a record of a message. A message that follows neither RFC, but
// has a priority, is one too: much network gear sends such. False: it has not
// even that.
func (p *parser) record(b []byte, source net.Addr, now time.Time) (connect.Record, bool) {
	m := message{BoxTime: now.UTC().Format(timeFormat), Source: host(source)}
	when, sent := now, false
	parsed, err := p.machine.Parse(b)
	switch v := parsed.(type) {
	case *rfc5424.SyslogMessage:
		m.base(&v.Base)
		if v.StructuredData != nil {
			m.StructuredData = *v.StructuredData
		}
		when, sent = timeOf(&v.Base, now)
	case *rfc3164.SyslogMessage:
		m.base(&v.Base)
		when, sent = timeOf(&v.Base, now)
		if sent && when.Sub(now) > 31*24*time.Hour {
			when = when.AddDate(-1, 0, 0) // December's message in January: it has no year
		}
	default:
		if err == nil || !m.unparsed(b) {
			return connect.Record{}, false
		}
	}
	m.Time = when.UTC().Format(timeFormat)
	hostname := m.Hostname
	if hostname == "" {
		hostname = m.Source
	}
	r := connect.Record{Value: b, Time: when, Values: map[string]string{
		"hostname": hostname, "app": m.App, "facility": m.Facility, "severity": m.Severity, "source": m.Source,
	}}
	if !p.raw {
		if r.Value, err = json.Marshal(m); err != nil {
			return connect.Record{}, false
		}
	}
	r.Headers = []connect.Header{{Key: "source", Value: []byte(m.Source)}, {Key: "box-time", Value: []byte(m.BoxTime)}}
	if sent {
		r.Headers = append(r.Headers, connect.Header{Key: "device-time", Value: []byte(m.Time)})
	}
	return r, true
}

func (m *message) base(b *gosyslog.Base) {
	text := func(s *string) string {
		if s == nil {
			return ""
		}
		return strings.ToValidUTF8(*s, "\uFFFD")
	}
	m.Hostname, m.App, m.Process, m.ID, m.Message = text(b.Hostname), text(b.Appname), text(b.ProcID), text(b.MsgID), plain(text(b.Message))
	if b.Priority != nil {
		m.priority(int(*b.Priority))
	}
}

// plain is a text without what is of the wire: the mark of UTF-8 (RFC 5424,
// 6.4), the space that rsyslog puts before every message, and a line's end.
func plain(s string) string {
	return strings.TrimRight(strings.TrimPrefix(strings.TrimPrefix(s, "\ufeff"), " "), "\r\n\x00")
}

func (m *message) priority(n int) {
	m.Facility, m.Severity = facilities[n/8], severities[n%8]
}

func timeOf(b *gosyslog.Base, now time.Time) (t time.Time, sent bool) {
	if b.Timestamp == nil {
		return now, false
	}
	return *b.Timestamp, true
}

// unparsed takes what stands behind a priority as the message (RFC 3164,
// 4.3.2).
func (m *message) unparsed(b []byte) bool {
	digits, rest, ok := strings.Cut(strings.TrimPrefix(string(b), "<"), ">")
	n, err := strconv.ParseUint(digits, 10, 8)
	if !ok || err != nil || b[0] != '<' || n > 191 || len(digits) > 3 {
		return false
	}
	m.priority(int(n))
	m.Message, m.Unparsed = plain(strings.ToValidUTF8(rest, "\uFFFD")), true
	return true
}

// host is an address without its port.
func host(a net.Addr) string {
	if h, _, err := net.SplitHostPort(a.String()); err == nil {
		return h
	}
	return a.String()
}
