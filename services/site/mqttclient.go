package site

import (
	"fmt"
	"net/url"
	"time"
)

// MQTTClient is a client of an MQTT broker elsewhere.
type MQTTClient struct {
	Name    string `yaml:"name"`
	Address string `yaml:"address"`           // mqtt://host:1883, or mqtts://host:8883 for TLS
	Version string `yaml:"version,omitempty"` // of the protocol: 5 or 3.1.1; default 5
	// ClientID names the client, and its session, at the broker; default the
	// site and the connector's name.
	ClientID  string     `yaml:"client_id,omitempty"`
	User      string     `yaml:"user,omitempty"`
	Password  string     `yaml:"password,omitempty"` // file
	TLS       *ClientTLS `yaml:"tls,omitempty"`      // for mqtts; default: the system's authorities
	KeepAlive string     `yaml:"keep_alive,omitempty"`
	// Session is how long the broker is to keep messages while the box is
	// away; 0s begins anew each time. MQTT 3.1.1 knows no time: the broker's.
	Session   string             `yaml:"session,omitempty"`
	Subscribe []MQTTSubscription `yaml:"subscribe,omitempty"`
	Publish   []Publication      `yaml:"publish,omitempty"`
	Records   Records            `yaml:"records,omitempty"`
}

// MQTTSubscription is a topic filter whose messages become records.
type MQTTSubscription struct {
	Filter string `yaml:"filter"`        // with + and #, and $share/group/ before it
	QoS    *int   `yaml:"qos,omitempty"` // default 1
}

// mqttClientWords are those of templates of an MQTTClient's records.
var mqttClientWords = []string{"topic"}

// Common implements Instance.
func (m *MQTTClient) Common() Common {
	return Common{Name: m.Name, Records: &m.Records, Words: mqttClientWords}
}

func (m *MQTTClient) fill() {
	orString(&m.Version, "5")
	orString(&m.KeepAlive, "30s")
	orString(&m.Session, "24h")
	m.Records.fill(m.Name, "{topic}")
	for i := range m.Subscribe {
		if m.Subscribe[i].QoS == nil {
			one := 1
			m.Subscribe[i].QoS = &one
		}
	}
}

func (m *MQTTClient) check(c checker, path string) {
	c.text(path+".address", m.Address, mqttAddress)
	c.text(path+".version", m.Version, oneOf("5", "3.1.1"))
	c.secret(path+".password", m.Password)
	c.text(path+".keep_alive", m.KeepAlive, span(time.Second, 18*time.Hour))
	c.text(path+".session", m.Session, span(0, 366*24*time.Hour))
	if m.Password != "" && m.User == "" {
		c.key(path+".password", "", "needs user")
	}
	if m.TLS != nil {
		c.clientTLS(path+".tls", m.TLS)
	}
	at := func(i int) string { return fmt.Sprintf("%s.subscribe[%d]", path, i) }
	for i, s := range m.Subscribe {
		c.text(at(i)+".filter", s.Filter, sharedFilter)
		if q := s.QoS; q != nil && (*q < 0 || *q > 2) {
			c.value(at(i)+".qos", "", "want 0, 1 or 2, got %d", *q)
		}
	}
	c.unique(len(m.Subscribe), func(i int) (string, string) { return m.Subscribe[i].Filter, at(i) + ".filter" })
	c.publications(path+".publish", m.Publish)
	if len(m.Subscribe) == 0 && len(m.Publish) == 0 {
		c.key(path, "", "carries nothing: give it subscribe, or publish")
	}
}

// sharedFilter is an mqttFilter, or one behind $share/group/.
func sharedFilter(s string) fault {
	rest, share := cutShare(s)
	switch {
	case share == "":
		return mqttFilter(s)
	case rest == "":
		return faultf("%q: want $share/group/filter", shorten(s))
	}
	return mqttFilter(rest)
}

func mqttAddress(s string) fault {
	u, err := url.Parse(s)
	switch {
	case err != nil || (u.Scheme != "mqtt" && u.Scheme != "mqtts") || u.Hostname() == "" || u.Path != "" || u.RawQuery != "":
		return fault{faultf("%q: want mqtt://host:port, or mqtts://host:port for TLS", shorten(s)).reason, ""}
	case u.User != nil:
		return faultf("holds a user or a password: say user and password, which is a file")
	}
	return fault{}
}
