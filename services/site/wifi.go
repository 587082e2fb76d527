package site

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Wifi is how the box joins wireless networks.
type Wifi struct {
	// Country as ISO 3166-1 writes it, "DE": it says which channels may be used.
	Country   string `yaml:"country"`
	Interface string `yaml:"interface,omitempty"` // name; default wlan0
	// Networks to join, the first one in reach.
	Networks []WifiNetwork `yaml:"networks"`
}

// WifiNetwork is one network.
type WifiNetwork struct {
	SSID     string `yaml:"ssid"`
	Hidden   *bool  `yaml:"hidden,omitempty"`   // it does not tell its name; default no
	Security string `yaml:"security,omitempty"` // a word of those below; default WifiWPA2or3
	// Passphrase is a file, of 8 to 63 characters; or the key, 64 of hex.
	Passphrase string `yaml:"passphrase,omitempty"`
	// EAP is how the box proves itself to a network of a company.
	EAP *WifiEAP `yaml:"eap,omitempty"`
}

// WifiEAP is a login by certificate (EAP-TLS, RFC 5216).
type WifiEAP struct {
	Identity string `yaml:"identity"`         // user name
	CA       string `yaml:"ca"`               // file of the login server's authorities, PEM
	Cert     string `yaml:"cert"`             // file of the box's certificate, PEM
	Key      string `yaml:"key"`              // file of its key, PEM, without a passphrase
	Server   string `yaml:"server,omitempty"` // name that the server's certificate has to have
}

// Files are the secret files that the networks name.
func (w *Wifi) Files() []string {
	var names []string
	for _, n := range w.Networks {
		names = append(names, n.Passphrase)
		if e := n.EAP; e != nil {
			names = append(names, e.CA, e.Cert, e.Key)
		}
	}
	return slices.DeleteFunc(names, func(name string) bool { return name == "" })
}

// Words of WifiNetwork.Security.
const (
	WifiWPA2or3 = "wpa2-wpa3" // whichever the network has, WPA3 first
	WifiWPA2    = "wpa2"
	WifiWPA3    = "wpa3"
	WifiOpen    = "open"
)

// DefaultWifiInterface is the first radio, as the kernel names it.
const DefaultWifiInterface = "wlan0"

func (w *Wifi) fill() {
	orString(&w.Interface, DefaultWifiInterface)
	for i := range w.Networks {
		orBool(&w.Networks[i].Hidden, false)
		orString(&w.Networks[i].Security, WifiWPA2or3)
	}
}

var countryCode = regexp.MustCompile(`^[A-Z]{2}$`)

func (c checker) wifi(path string, w *Wifi) {
	c.text(path+".country", w.Country, func(s string) fault {
		if !countryCode.MatchString(s) {
			return faultf("want two capital letters, such as DE, got %q", shorten(s))
		}
		return fault{}
	})
	c.text(path+".interface", w.Interface, func(s string) fault {
		if strings.ContainsAny(s, "*?") {
			return faultf("want the name of one radio, such as wlan0, got %q", shorten(s))
		}
		return interfaceMatch(s)
	})
	at := func(i int) string { return fmt.Sprintf("%s.networks[%d]", path, i) }
	for i := range w.Networks {
		c.wifiNetwork(at(i), &w.Networks[i])
	}
	c.unique(len(w.Networks), func(i int) (string, string) { return w.Networks[i].SSID, at(i) + ".ssid" })
}

func (c checker) wifiNetwork(path string, n *WifiNetwork) {
	c.text(path+".ssid", n.SSID, func(s string) fault {
		if len(s) > 32 {
			return faultf("has %d bytes, the most is 32", len(s))
		}
		return fault{}
	})
	c.text(path+".security", n.Security, oneOf(WifiWPA2or3, WifiWPA2, WifiWPA3, WifiOpen))
	c.secret(path+".passphrase", n.Passphrase)
	open := n.Security == WifiOpen
	switch keys := n.Passphrase != "" || n.EAP != nil; {
	case open && keys:
		c.value(path+".security", "", "an open network has neither passphrase nor eap")
	case n.Passphrase != "" && n.EAP != nil:
		c.key(path+".eap", "", "a network has a passphrase or eap, not both")
	case !open && !keys:
		c.key(path, "", "needs passphrase, the name of a file, or eap, or security: open")
	}
	if e := n.EAP; e != nil {
		c.secret(path+".eap.ca", e.CA)
		c.secret(path+".eap.cert", e.Cert)
		c.secret(path+".eap.key", e.Key)
		c.text(path+".eap.server", e.Server, host)
	}
}
