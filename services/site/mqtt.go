package site

import (
	"fmt"
	"strings"
)

// MQTT is the MQTT broker on the box and where its messages go.
type MQTT struct {
	Listen    string         `yaml:"listen,omitempty"`    // host:port, plain text; default ":1883"
	Listeners []MQTTListener `yaml:"listeners,omitempty"` // beside Listen
	Users     string         `yaml:"users,omitempty"`     // file of users and passwords
	// Anonymous lets clients in that give no user name; default true while
	// there is no file of users.
	Anonymous *bool         `yaml:"anonymous,omitempty"`
	ACL       []MQTTRule    `yaml:"acl,omitempty"`     // default: everybody may do everything
	Routes    []Route       `yaml:"routes"`            // first match wins; a message that none matches is refused
	Publish   []Publication `yaml:"publish,omitempty"` // from Kafka to MQTT
}

// MQTTListener is a further address for MQTT clients.
type MQTTListener struct {
	Name   string     `yaml:"name"`          // for people and logs
	Listen string     `yaml:"listen"`        // host:port
	TLS    *ServerTLS `yaml:"tls,omitempty"` // default: plain text; a client's user is its certificate's common name
	// Anonymous is as that of the broker, for this listener; default: that.
	Anonymous *bool `yaml:"anonymous,omitempty"`
}

// MQTTRule allows topics to users. In its filters {client} and {user} stand
// for the client's identifier and user.
type MQTTRule struct {
	User      string   `yaml:"user"`                // a name, "anonymous", or "*" for everybody
	Publish   []string `yaml:"publish,omitempty"`   // filters of topics to publish to
	Subscribe []string `yaml:"subscribe,omitempty"` // filters that cover what may be subscribed to
}

// Route sends messages of a topic filter to a Kafka topic. The record's key
// is the MQTT topic, its value the payload.
type Route struct {
	Filter string `yaml:"filter"` // MQTT topic filter, with + and #
	Topic  string `yaml:"topic"`  // Kafka topic
}

// Publication makes messages of the records of a Kafka topic.
type Publication struct {
	Topic  string `yaml:"topic"`            // Kafka topic
	To     string `yaml:"to"`               // MQTT topic, with {key}, {topic} and {header:NAME}
	QoS    int    `yaml:"qos,omitempty"`    // the most that a subscriber gets it with
	Retain bool   `yaml:"retain,omitempty"` // the last one is kept for who subscribes later
}

func (m *MQTT) fill() {
	orString(&m.Listen, DefaultMQTTListen)
	orBool(&m.Anonymous, m.Users == "")
	for i := range m.Listeners {
		l := &m.Listeners[i]
		orBool(&l.Anonymous, *m.Anonymous)
		if l.TLS != nil {
			l.TLS.fill()
		}
	}
}

func (c checker) mqtt(path string, m *MQTT) {
	c.text(path+".listen", m.Listen, listenAddress)
	c.secret(path+".users", m.Users)
	c.mqttListeners(path, m)
	for i, r := range m.ACL {
		at := fmt.Sprintf("%s.acl[%d]", path, i)
		c.texts(at+".publish", r.Publish, mqttFilter)
		c.texts(at+".subscribe", r.Subscribe, mqttFilter)
	}
	c.routes(path, m.Routes)
	c.publications(path+".publish", m.Publish)
}

func (c checker) mqttListeners(path string, m *MQTT) {
	at := func(i int) string { return fmt.Sprintf("%s.listeners[%d]", path, i) }
	listen := m.Listen
	orString(&listen, DefaultMQTTListen)
	for i, l := range m.Listeners {
		c.text(at(i)+".name", l.Name, siteID)
		c.text(at(i)+".listen", l.Listen, listenAddress)
		if l.Listen == listen {
			c.value(at(i)+".listen", "", "%s is %s.listen", l.Listen, path)
		}
		if l.Name == "mqtt" {
			c.value(at(i)+".name", "", "mqtt is the name of the listener at %s.listen", path)
		}
		if l.TLS != nil {
			c.serverTLS(at(i)+".tls", l.TLS)
		}
	}
	c.unique(len(m.Listeners), func(i int) (string, string) { return m.Listeners[i].Name, at(i) + ".name" })
	c.unique(len(m.Listeners), func(i int) (string, string) { return m.Listeners[i].Listen, at(i) + ".listen" })
}

func (c checker) routes(path string, routes []Route) {
	at := func(i int) string { return fmt.Sprintf("%s.routes[%d]", path, i) }
	for i, r := range routes {
		c.text(at(i)+".filter", r.Filter, mqttFilter)
		c.text(at(i)+".topic", r.Topic, topicName)
	}
	c.unique(len(routes), func(i int) (string, string) { return routes[i].Filter, at(i) + ".filter" })
	for i, r := range routes {
		for _, earlier := range routes[:i] {
			if covers(earlier.Filter, r.Filter) {
				c.value(at(i)+".filter", "", "%q is never reached: %q comes first and matches all of it", shorten(r.Filter), shorten(earlier.Filter))
				break
			}
		}
	}
}

// MQTTTopic puts a record's key, Kafka topic and headers into To. header
// returns "" for one that the record does not have.
func (p *Publication) MQTTTopic(key string, header func(name string) string) (string, error) {
	missing := ""
	name, bad := ExpandTemplate(p.To, func(word string) (string, bool) {
		value := ""
		h, isHeader := strings.CutPrefix(word, "header:")
		switch {
		case isHeader && h != "":
			value = header(h)
		case word == "key":
			value = key
		case word == "topic":
			value = p.Topic
		default:
			return "", false
		}
		if value == "" && missing == "" {
			missing = word
		}
		return value, true
	})
	switch {
	case bad != "":
		return "", fmt.Errorf("%q: {%s} is none of {key}, {topic}, {header:NAME}", p.To, bad)
	case missing != "":
		return "", fmt.Errorf("a record has no %s, which topic %q is made of", missing, p.To)
	}
	return name, CheckMQTTTopic(name)
}

// CheckMQTTTopic says why nobody may publish under a topic name (MQTT 5.0,
// 4.7).
func CheckMQTTTopic(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("topic name is empty")
	case len(name) > maxFilter:
		return fmt.Errorf("topic name is longer than %d bytes", maxFilter)
	case strings.ContainsAny(name, "+#\x00"):
		return fmt.Errorf("topic name %.40q holds a wildcard or a zero byte", name)
	case name[0] == '$':
		return fmt.Errorf("topic name %.40q begins with $, which is the MQTT broker's own", name)
	}
	return nil
}

// publications judges what goes from Kafka to MQTT.
func (c checker) publications(path string, ps []Publication) {
	at := func(i int) string { return fmt.Sprintf("%s[%d]", path, i) }
	for i, p := range ps {
		c.text(at(i)+".topic", p.Topic, topicName)
		c.text(at(i)+".to", p.To, mqttTemplate)
		if p.QoS < 0 || p.QoS > 2 {
			c.value(at(i)+".qos", "", "want 0, 1 or 2, got %d", p.QoS)
		}
	}
	c.unique(len(ps), func(i int) (string, string) { return ps[i].Topic, at(i) + ".topic" })
}

// mqttTemplate judges the template of a publication's topic.
func mqttTemplate(s string) fault {
	p := Publication{Topic: "t", To: s}
	if _, err := p.MQTTTopic("k", func(string) string { return "h" }); err != nil {
		return faultf("%v", err)
	}
	return fault{}
}

// cutShare splits a shared subscription (MQTT 5.0, 4.8.2); share is "" for
// any other filter.
func cutShare(s string) (filter, share string) {
	rest, ok := strings.CutPrefix(s, "$share/")
	if !ok {
		return s, ""
	}
	share, filter, _ = strings.Cut(rest, "/")
	if share == "" || strings.ContainsAny(share, "+#") {
		return "", "$share"
	}
	return filter, share
}
