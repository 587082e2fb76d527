//go:build linux

package pid1

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waysideos/wayside/services/manifest"
	"github.com/waysideos/wayside/services/site"
)

func TestListenAt(t *testing.T) {
	sockets := []manifest.Socket{
		{FDName: "kafka", Listen: []string{"9092"}}, {FDName: "mqtt", Listen: []string{"1883"}},
		{FDName: "http", Listen: []string{"8080"}}, {FDName: "other", Listen: []string{"/run/other"}},
		{FDName: "connect", Listen: []string{"8082"}},
	}
	p, err := site.Parse("site.yaml", []byte("version: 1\nsite: x\nbroker: {listen: \"10.0.0.1:9192\"}\nconnect: {mqtt: {listen: \":2883\", routes: [{filter: \"#\", topic: a}]}}\n"))
	if err != nil {
		t.Fatal(err)
	}
	check := func(want ...string) {
		t.Helper()
		var got []string
		all := listenAt(slices.Clone(sockets), p)
		for _, s := range all {
			got = append(got, s.Listen...)
		}
		if len(all) != len(sockets) {
			t.Errorf("got %d sockets, want %d: a service whose socket is missing does not start", len(all), len(sockets))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("addresses (-want +got):\n%s", diff)
		}
	}
	check("10.0.0.1:9192", "2883", "8080", "/run/other")
	p.Connect.HTTP = []site.HTTP{{Listen: ":8083"}, {Listen: "10.0.0.1:80"}}
	check("10.0.0.1:9192", "2883", "8080", "/run/other", "8083", "10.0.0.1:80")
}

// A service that would have nothing to do ends badly if it is started anew.
func TestFollowers(t *testing.T) {
	affected := []string{"broker", "mqtt", "updater", "wifi"}
	units := []manifest.Unit{{Name: "broker"}, {Name: "updater"}, {Name: "wifi"}} // mqtt is not of this release
	radio := &site.Profile{Network: site.Network{Wifi: &site.Wifi{}}}
	for _, c := range []struct {
		name           string
		runs           []string
		p              *site.Profile
		renewed, later []string
	}{
		{"another radio", []string{"broker", "updater", "wifi"}, radio, []string{"broker", "wifi"}, nil},
		{"the first radio", []string{"broker", "updater"}, radio, []string{"broker"}, []string{"the service wifi"}},
		{"no radio any more", []string{"broker", "updater", "wifi"}, &site.Profile{}, []string{"broker"}, []string{"the service wifi"}},
		{"never a radio", []string{"broker", "updater"}, &site.Profile{}, []string{"broker"}, nil},
	} {
		renewed, later := followers(affected, func(name string) bool { return slices.Contains(c.runs, name) }, units, c.p)
		if !slices.Equal(renewed, c.renewed) || !slices.Equal(later, c.later) {
			t.Errorf("%s: got %q started anew and %q later, want %q and %q", c.name, renewed, later, c.renewed, c.later)
		}
	}
}
