package mqtt

import (
	"fmt"
	"strings"
	"sync/atomic"

	mochi "github.com/mochi-mqtt/server/v2"

	"github.com/waysideos/wayside/services/site"
)

// route is a site.Route, and what has gone through it.
type route struct {
	site.Route
	levels         []string
	records, bytes atomic.Int64
}

func parseRoutes(rs []site.Route) ([]route, error) {
	routes := make([]route, len(rs))
	for i, r := range rs {
		levels := strings.Split(r.Filter, "/")
		if !mochi.IsValidFilter(r.Filter, false) || levels[0] == "$share" {
			return nil, fmt.Errorf("route %q: not an MQTT topic filter", r.Filter)
		}
		if r.Topic == "" {
			return nil, fmt.Errorf("route %q: no Kafka topic is given", r.Filter)
		}
		routes[i].Route, routes[i].levels = r, levels
	}
	return routes, nil
}

// find returns the first route that takes topic, or nil.
func (c *Connector) find(topic string) *route {
	for i := range c.routes {
		if match(c.routes[i].levels, topic) {
			return &c.routes[i]
		}
	}
	return nil
}

// match applies a topic filter (MQTT 5.0, section 4.7): + is one level, # is
// the rest and the level above it, and neither begins a match of a topic
// that begins with $.
func match(filter []string, topic string) bool {
	if strings.HasPrefix(topic, "$") && filter[0] != "" && strings.Contains("+#", filter[0]) {
		return false
	}
	rest, more := topic, true
	for _, want := range filter {
		if want == "#" {
			return true
		}
		if !more {
			return false
		}
		var level string
		level, rest, more = strings.Cut(rest, "/")
		if want != "+" && want != level {
			return false
		}
	}
	return !more
}
