package profile

import (
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waysideos/wayside/services/site"
)

// Each reader gets what it needs of a site's secrets, and no more.
func TestReadersGetWhatTheyNeed(t *testing.T) {
	files := set{}
	for _, name := range []string{"server.key", "users", "api.token", "update-ca.pem", "shop-floor", "radio.key", "radio.pem"} {
		files[name] = []byte(name)
	}
	p, err := site.Parse("site.yaml", []byte(good+`network:
  wifi:
    country: DE
    networks:
      - {ssid: shop floor, passphrase: shop-floor}
      - {ssid: elsewhere, passphrase: /usr/lib/elsewhere}
      - {ssid: lost, passphrase: not-delivered}
      - {ssid: office, eap: {identity: box, ca: radio.pem, cert: radio.pem, key: radio.key}}
`))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]string{
		"secrets": slices.Sorted(maps.Keys(files)),
		"wifi":    {"radio.key", "radio.pem", "shop-floor"},
		"console": {"api.token"}, "updater": {"update-ca.pem"},
	}
	got := map[string][]string{}
	for _, r := range Readers {
		got[r.Group+r.User] = slices.Sorted(maps.Keys(r.Pick(p, files)))
		if r.User == "wifi" && len(r.Pick(&site.Profile{}, files)) != 0 {
			t.Error("the wifi service gets secrets under a profile without networks")
		}
	}
	var renewed []string
	for _, r := range Renewed(&site.Profile{}, p) {
		renewed = append(renewed, r.Group+r.User)
	}
	if !slices.Equal(renewed, []string{"wifi"}) || len(Renewed(p, p)) != 0 {
		t.Errorf("another profile renews %q, the same one %v; want wifi, and nothing", renewed, Renewed(p, p))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("who gets what (-want +got):\n%s", diff)
	}
}
