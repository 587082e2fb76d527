//go:build linux

package pid1

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waysideos/wayside/services/manifest"
	"github.com/waysideos/wayside/services/site"
)

func TestListenAt(t *testing.T) {
	sockets := []manifest.Socket{
		{FDName: "kafka", Listen: []string{"9092"}}, {FDName: "mqtt", Listen: []string{"1883"}},
		{FDName: "http", Listen: []string{"8080"}}, {FDName: "other", Listen: []string{"/run/other"}},
	}
	p, err := site.Parse("site.yaml", []byte("version: 1\nsite: x\nbroker: {listen: \"10.0.0.1:9192\"}\nconnect: {mqtt: {listen: \":2883\", routes: [{filter: \"#\", topic: a}]}}\n"))
	if err != nil {
		t.Fatal(err)
	}
	listenAt(sockets, p)
	var got []string
	for _, s := range sockets {
		got = append(got, s.Listen...)
	}
	if diff := cmp.Diff([]string{"10.0.0.1:9192", "2883", "8080", "/run/other"}, got); diff != "" {
		t.Errorf("addresses (-want +got):\n%s", diff)
	}
}
