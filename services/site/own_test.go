package site

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const forMany = `version: 1
site: shop
network:
  hostname: "{site}.example.com"
  interfaces: [{match: eth0, addresses: ["{var:address}/24"]}]
  wifi: {country: DE, networks: [{ssid: "shop {var:till}", passphrase: shop.wifi}]}
links:
  - name: centre
    bootstrap: ["centre.example.com:9093"]
    tls: {cert: box.pem, key: box.key, ca: /etc/ca.pem}
    sasl: {mechanism: SCRAM-SHA-512, user: "{site}", password: link.password}
    rules: [{name: r, topics: [t], to: "{site}.{topic}"}]
variables: {address: 192.0.2.1, till: 7}
`

func TestOwn(t *testing.T) {
	for _, c := range []struct {
		own                       Own
		site, host, address, ssid string
	}{
		{Own{}, "shop", "shop.example.com", "192.0.2.1/24", "shop 7"},
		{Own{Site: "shop-9", Variables: map[string]string{"address": "192.0.2.9", "other": "x"}}, "shop-9", "shop-9.example.com", "192.0.2.9/24", "shop 7"},
	} {
		p, err := ParseFor("f", []byte(forMany), c.own)
		if err != nil {
			t.Fatal(err)
		}
		n := p.Network
		got := []string{p.Site, n.Hostname, n.Interfaces[0].Addresses[0], n.Wifi.Networks[0].SSID, p.Links[0].SASL.User, p.Links[0].Rules[0].To}
		if diff := cmp.Diff([]string{c.site, c.host, c.address, c.ssid, c.site, c.site + ".{topic}"}, got); diff != "" {
			t.Errorf("%+v (-want +got):\n%s", c.own, diff)
		}
		// What services read is one box's, and knows of no other.
		text, err := Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Parse("effective", text)
		if err != nil || !cmp.Equal(p, again) {
			t.Errorf("the effective profile reads back as another one: %v", cmp.Diff(p, again))
		}
	}
}

// However YAML writes a text, its words stand for what it reads as.
func TestOwnStyles(t *testing.T) {
	for text, want := range map[string]string{
		"site: shop\nvariables: {a: x}":                       "shop x",
		"site: 'shop'\nvariables: {\"a\": 'it''s'}":           "shop it's",
		"site: |-\n  shop\nvariables:\n  a: >-\n    x\n    y": "shop x y",
		"site: \"7\"\nvariables: {a: 007}":                    "7 007",
	} {
		p, err := Parse("f", []byte("version: 1\ndescription: \"{site} {var:a}\"\n"+text+"\n"))
		if err != nil || p.Description != want {
			t.Errorf("%q: got %+v, %v, want %q", text, p, err, want)
		}
	}
}

func TestOwnRefusals(t *testing.T) {
	for text, want := range map[string]string{
		"description: \"{var:tall}\"\nvariables: {till: 1}":              `{var:tall} is not declared; in variables there is: till (did you mean "till"?)`,
		"description: \"{var:x}\"":                                       "in variables there is: nothing",
		"variables: {a: \"{site}\"}":                                     "holds a brace",
		"variables: {Till: 1}":                                           "lower-case",
		"variables: {a: \"" + strings.Repeat("x", maxVariable+1) + "\"}": "has 501 bytes",
		"description: \"" + strings.Repeat("{site}", maxGrowth/3) + "\"": "too large",
		"variables: {a: \"" + strings.Repeat("x", maxVariable) + "\"}\ndescription: \"" + strings.Repeat("{var:a}", maxGrowth/maxVariable+1) + "\"": "too large",
	} {
		_, err := Parse("f", []byte("version: 1\nsite: shop\n"+text+"\n"))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: got %v, want %q", text, err, want)
		}
	}
	// A claim hides no mistake of the profile's.
	if _, err := ParseFor("f", []byte(strings.Replace(forMany, "site: shop", "site: Shop 9", 1)), Own{Site: "shop-9"}); err == nil {
		t.Error("a profile with a name that is none was taken")
	}
}

func TestSecretFiles(t *testing.T) {
	p, err := Parse("f", []byte(forMany))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"box.key", "box.pem", "link.password", "shop.wifi"}, SecretFiles(p)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
