package profile

import (
	"maps"
	"reflect"
	"slices"

	"github.com/waysideos/wayside/services/site"
)

// parts is what each service reads of the profile at its start: one of which
// that changes is started anew. Device connectors follow the profile by
// themselves, but for what they cannot.
var parts = map[string]func(p *site.Profile) []any{
	"broker":     func(p *site.Profile) []any { return []any{p.Broker} },
	"mqtt":       func(p *site.Profile) []any { return []any{p.Broker.Listen, p.Connect.MQTT} },
	"connect":    func(p *site.Profile) []any { return []any{p.Site, p.Broker.Listen, httpListeners(p)} },
	"console":    func(p *site.Profile) []any { return []any{p.Site, p.Broker.Listen, p.Console, p.Telemetry} },
	"replicator": func(p *site.Profile) []any { return []any{p.Site, p.Broker.Listen, p.Links, p.Network} }, // its connections hang where an address is gone
	"wifi":       func(p *site.Profile) []any { return []any{p.Network.Wifi} },
	"updater":    func(p *site.Profile) []any { return []any{p.Broker.Listen, p.Update} },
}

// httpListeners are the addresses whose sockets are init's.
func httpListeners(p *site.Profile) (out []string) {
	for _, h := range p.Connect.HTTP {
		out = append(out, h.Listen)
	}
	return out
}

// Affected names the services that have to be started anew when one profile
// takes the place of another, sorted.
func Affected(was, now *site.Profile) []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(parts)) {
		if !same(parts[name](was), parts[name](now)) {
			out = append(out, name)
		}
	}
	return out
}

// NextStart names the fields that a box follows from its next start on.
func NextStart(was, now *site.Profile) []string {
	if same(was.Hardware, now.Hardware) {
		return nil
	}
	return []string{"hardware"}
}

func same(a, b any) bool { return reflect.DeepEqual(a, b) }
