package wifi

import (
	"encoding/hex"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/waysideos/wayside/services/secret"
	"github.com/waysideos/wayside/services/site"
)

// configuration is the supplicant's file (wpa_supplicant.conf(5)). Text that
// may hold anything is written as hex. Networks that the box has no login for
// are left out, and told of: the others are joined all the same.
func configuration(w site.Wifi, secrets, control string) (text string, unusable []string) {
	var b strings.Builder
	fmt.Fprintf(&b, "ctrl_interface=%s\ncountry=%s\n", control, w.Country)
	// Both ways to make SAE's element of a passphrase; frames of management
	// are protected wherever the network can.
	b.WriteString("sae_pwe=2\npmf=1\n")
	for i, n := range w.Networks {
		lines, err := login(n, secrets)
		if err != nil {
			unusable = append(unusable, fmt.Sprintf("network %s: %v", n.SSID, err))
			continue
		}
		fmt.Fprintf(&b, "network={\n\tssid=%s\n\tpriority=%d\n", hex.EncodeToString([]byte(n.SSID)), len(w.Networks)-i)
		if n.Hidden != nil && *n.Hidden {
			b.WriteString("\tscan_ssid=1\n")
		}
		for _, l := range lines {
			b.WriteString("\t" + l + "\n")
		}
		b.WriteString("}\n")
	}
	return b.String(), unusable
}

// management words of a security: how keys are agreed on, and whether frames
// of management must be protected (ieee80211w), as WPA3 wants it.
var management = map[string][]string{
	site.WifiWPA2or3: {"key_mgmt=WPA-PSK WPA-PSK-SHA256 SAE", "ieee80211w=1"},
	site.WifiWPA2:    {"key_mgmt=WPA-PSK WPA-PSK-SHA256", "ieee80211w=1"},
	site.WifiWPA3:    {"key_mgmt=SAE", "ieee80211w=2"},
	site.WifiOpen:    {"key_mgmt=NONE"},
}

// login is how the box proves itself to a network.
func login(n site.WifiNetwork, secrets string) ([]string, error) {
	switch {
	case n.EAP != nil:
		return certificate(n, secrets), nil
	case n.Security == site.WifiOpen:
		return management[site.WifiOpen], nil
	}
	text, err := secret.Read(secrets, n.Passphrase)
	if err != nil {
		return nil, err
	}
	switch {
	case rawKey.MatchString(text):
		if n.Security == site.WifiWPA3 {
			return nil, fmt.Errorf("%s holds a key of WPA2: WPA3 needs the passphrase", n.Passphrase)
		}
		return append([]string{"psk=" + text}, management[site.WifiWPA2]...), nil
	case !passphrase.MatchString(text):
		return nil, fmt.Errorf("%s holds no passphrase: want 8 to 63 printable characters", n.Passphrase)
	}
	// The supplicant reads to the last quote of the line.
	return append([]string{`psk="` + text + `"`}, management[n.Security]...), nil
}

var (
	rawKey     = regexp.MustCompile(`^[0-9a-fA-F]{64}$`)
	passphrase = regexp.MustCompile(`^[ -~]{8,63}$`)
)

// certificate is a login by EAP-TLS.
func certificate(n site.WifiNetwork, secrets string) []string {
	e := n.EAP
	file := func(name string) string {
		return hex.EncodeToString([]byte(filepath.Clean(secret.Path(secrets, name))))
	}
	protected := "ieee80211w=1"
	if n.Security == site.WifiWPA3 {
		protected = "ieee80211w=2"
	}
	out := []string{
		"key_mgmt=WPA-EAP WPA-EAP-SHA256", protected, "eap=TLS",
		"identity=" + hex.EncodeToString([]byte(e.Identity)),
		"ca_cert=" + file(e.CA), "client_cert=" + file(e.Cert), "private_key=" + file(e.Key),
	}
	if e.Server != "" {
		out = append(out, "domain_match="+hex.EncodeToString([]byte(e.Server)))
	}
	return out
}
