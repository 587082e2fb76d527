package mqtt

import (
	"net"
	"strings"
	"testing"

	"github.com/waysideos/wayside/services/site"
)

// The examples of MQTT 5.0, section 4.7, and what lies between them.
func TestMatch(t *testing.T) {
	for _, tc := range []struct {
		filter, topic string
		want          bool
	}{
		{"sport/tennis/player1/#", "sport/tennis/player1", true},
		{"sport/tennis/player1/#", "sport/tennis/player1/ranking", true},
		{"sport/tennis/player1/#", "sport/tennis/player10", false},
		{"sport/#", "sport", true},
		{"#", "a/b/c", true},
		{"#", "$SYS/x", false},
		{"+/x", "$SYS/x", false},
		{"$SYS/#", "$SYS/x", true},
		{"sport/tennis/+", "sport/tennis/player1", true},
		{"sport/tennis/+", "sport/tennis/player1/ranking", false},
		{"sport/+", "sport", false},
		{"sport/+", "sport/", true},
		{"+/+", "/finance", true},
		{"/+", "/finance", true},
		{"+", "/finance", false},
		{"+/tennis/#", "a/tennis/b/c", true},
		{"a/b", "a/b", true},
		{"a/b", "A/b", false},
		{"a/b", "a/b/c", false},
		{"a/b/c", "a/b", false},
	} {
		if got := match(strings.Split(tc.filter, "/"), tc.topic); got != tc.want {
			t.Errorf("match(%q, %q) = %v, want %v", tc.filter, tc.topic, got, tc.want)
		}
	}
}

func TestFirstRouteWins(t *testing.T) {
	rs, err := parseRoutes([]site.Route{{Filter: "a/b", Topic: "one"}, {Filter: "a/#", Topic: "two"}})
	if err != nil {
		t.Fatal(err)
	}
	c := &Connector{routes: rs}
	for topic, want := range map[string]string{"a/b": "one", "a/c": "two", "a": "two"} {
		if got := c.find(topic); got == nil || got.Topic != want {
			t.Errorf("find(%q) = %v, want %s", topic, got, want)
		}
	}
	if got := c.find("b"); got != nil {
		t.Errorf("find(b) = %v, want none", got)
	}
}

func TestNewRefuses(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	ok := Config{Listener: ln, Broker: []string{"127.0.0.1:1"}}
	for name, change := range map[string]func(*Config){
		"no listener":   func(c *Config) { c.Listener = nil },
		"no broker":     func(c *Config) { c.Broker = nil },
		"bad filter":    func(c *Config) { c.Routes = []site.Route{{Filter: "a/#/b", Topic: "t"}} },
		"shared filter": func(c *Config) { c.Routes = []site.Route{{Filter: "$share/g/a", Topic: "t"}} },
		"no topic":      func(c *Config) { c.Routes = []site.Route{{Filter: "a"}} },
	} {
		cfg := ok
		change(&cfg)
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: New accepted it", name)
		}
	}
}

func TestRetainedIsBounded(t *testing.T) {
	m, err := newMetrics(nil, func() int { return 0 })
	if err != nil {
		t.Fatal(err)
	}
	r := &retained{messages: map[string]*message{}, refused: m.unretained}
	keep := func(topic string, size int) bool {
		m := &message{topic: topic, payload: make([]byte, size)}
		if !r.fits(m) {
			return false
		}
		r.set(m)
		return true
	}
	if !keep("a", maxRetained/2) || !keep("a", maxRetained/2) || !keep("b", maxRetained/4) {
		t.Error("refused while there is room")
	}
	if keep("c", maxRetained/2) {
		t.Error("kept more than the limit")
	}
	if !keep("a", 0) || !keep("c", maxRetained/2) {
		t.Error("an ended retained message did not free its room")
	}
}
