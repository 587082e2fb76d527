package site

// Syslog is a receiver of log messages.
type Syslog struct {
	Name string `yaml:"name"`
	// Transport is udp, tcp or tls; default udp.
	Transport string     `yaml:"transport,omitempty"`
	Listen    string     `yaml:"listen,omitempty"` // host:port; default ":514", with tls ":6514"
	TLS       *ServerTLS `yaml:"tls,omitempty"`    // of transport tls
	// TimeZone of times that come without one (RFC 3164); default UTC.
	TimeZone string `yaml:"time_zone,omitempty"`
	// MaxMessage is the longest message; what is longer is a dead letter.
	// Default 64kB.
	MaxMessage string  `yaml:"max_message,omitempty"`
	Records    Records `yaml:"records,omitempty"`
}

// Words of Syslog.Transport.
const (
	SyslogUDP = "udp"
	SyslogTCP = "tcp"
	SyslogTLS = "tls"
)

// syslogWords are those of templates, beside those of every protocol.
var syslogWords = []string{"hostname", "app", "facility", "severity", "source"}

// Common implements Instance.
func (s *Syslog) Common() Common {
	return Common{Name: s.Name, Records: &s.Records, Words: syslogWords}
}

func (s *Syslog) fill() {
	orString(&s.Transport, SyslogUDP)
	if s.Transport == SyslogTLS {
		orString(&s.Listen, ":6514")
	}
	orString(&s.Listen, ":514")
	if s.TLS != nil {
		s.TLS.fill()
	}
	orString(&s.TimeZone, defaultZone)
	orString(&s.MaxMessage, "64kB")
	s.Records.fill(s.Name, "{hostname}")
}

func (s *Syslog) check(c checker, path string) {
	c.text(path+".transport", s.Transport, oneOf(SyslogUDP, SyslogTCP, SyslogTLS))
	c.text(path+".listen", s.Listen, listenAddress)
	if (s.Transport == SyslogTLS) != (s.TLS != nil) {
		c.key(path, "", "transport: tls and the section tls, with cert and key, need each other")
	}
	if s.TLS != nil {
		c.serverTLS(path+".tls", s.TLS)
	}
	c.text(path+".time_zone", s.TimeZone, timeZone)
	c.text(path+".max_message", s.MaxMessage, func(text string) fault {
		if n, err := ParseSize(text); err != nil || n < 480 || n > 500e3 {
			return faultf("want a size from 480B to 500kB, got %q", shorten(text))
		}
		return fault{}
	})
	c.text(path+".records.format", s.Records.Format, oneOf(FormatJSON, FormatRaw))
}
