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
