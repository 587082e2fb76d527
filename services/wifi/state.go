package wifi

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/waysideos/wayside/services/manifest"
)

// state is what the radio is doing, as far as the supplicant has said.
type state struct {
	trouble string // why there is no supplicant to ask; "" while there is

	wpa    string // wpa_state of the supplicant: COMPLETED, SCANNING, …
	ssid   string // of the network that it is in or joins
	keys   string // key_mgmt: WPA2-PSK, SAE, …
	bssid  string // of the access point
	freq   int    // MHz
	signal int    // dBm; 0: not known

	refused string // what a network said to us last, until one takes us in
	unseen  bool   // no network of ours was found by the last scan

	unusable string // networks of the profile that are left out, and why
}

// completed is the wpa_state of a radio that is in a network.
const completed = "COMPLETED"

func (n state) connected() bool { return n.trouble == "" && n.wpa == completed }

// security is a protocol as the profile's author knows it.
var security = map[string]string{
	"WPA2-PSK": "WPA2", "WPA2-PSK-SHA256": "WPA2", "WPA-PSK": "WPA", "SAE": "WPA3", "NONE": "open",
	"WPA2/IEEE 802.1X/EAP": "WPA2 enterprise", "WPA2-EAP-SHA256": "WPA2 enterprise",
}

// headline is the state in one line.
func (n state) headline() string {
	switch {
	case n.trouble != "":
		return n.trouble
	case n.connected():
		how := security[n.keys]
		if how == "" {
			how = n.keys
		}
		return fmt.Sprintf("in network %s (%s)", n.ssid, how)
	case n.refused != "":
		return n.refused
	case n.unseen:
		return "no network of the profile is in reach"
	}
	switch n.wpa {
	case "ASSOCIATING", "ASSOCIATED", "AUTHENTICATING", "4WAY_HANDSHAKE", "GROUP_HANDSHAKE":
		return "joining network " + n.ssid
	case "INTERFACE_DISABLED":
		return "the radio is switched off"
	}
	return "looking for networks"
}

// facts adds to a report what a technician asks for.
func (n state) facts(r manifest.Report) manifest.Report {
	if n.unusable != "" {
		r.Facts = append(r.Facts, manifest.Fact{Name: "Left out", Value: n.unusable})
	}
	if !n.connected() {
		return r
	}
	r.Facts = append(r.Facts,
		manifest.Fact{Name: "Access point", Value: fmt.Sprintf("%s, %d MHz", n.bssid, n.freq)})
	if n.signal != 0 {
		r.Facts = append(r.Facts, manifest.Fact{Name: "Signal", Value: fmt.Sprintf("%d dBm", n.signal)})
	}
	return r
}

// status takes the answer to STATUS: lines "key=value".
func (n *state) status(answer string) {
	v := values(answer)
	n.trouble, n.wpa, n.bssid, n.keys = "", v["wpa_state"], v["bssid"], v["key_mgmt"]
	n.ssid = unescape(v["ssid"])
	n.freq, _ = strconv.Atoi(v["freq"])
	if n.connected() {
		n.refused, n.unseen = "", false
	}
}

func values(answer string) map[string]string {
	out := map[string]string{}
	for line := range strings.Lines(answer) {
		if key, value, ok := strings.Cut(strings.TrimRight(line, "\n"), "="); ok {
			out[key] = value
		}
	}
	return out
}

// event takes one unsolicited message, "<3>CTRL-EVENT-…".
func (n *state) event(text string) {
	if _, rest, ok := strings.Cut(text, ">"); ok && strings.HasPrefix(text, "<") {
		text = rest
	}
	name, rest, _ := strings.Cut(text, " ")
	switch name {
	case "CTRL-EVENT-SSID-TEMP-DISABLED":
		n.refused = refusal(rest)
	case "CTRL-EVENT-EAP-TLS-CERT-ERROR":
		n.refused = "the login server's certificate is refused: " + field(rest, "err")
	case "CTRL-EVENT-EAP-FAILURE":
		if n.refused == "" {
			n.refused = "the login server refuses the box's certificate"
		}
	case "CTRL-EVENT-NETWORK-NOT-FOUND":
		n.unseen = true // of those that are not left alone for a while
	case "CTRL-EVENT-CONNECTED":
		n.refused, n.unseen = "", false
	}
}

// refusal words why a network does not take the box:
// `id=0 ssid="shop" auth_failures=1 duration=10 reason=WRONG_KEY`.
func refusal(rest string) string {
	ssid := "network " + unescape(field(rest, "ssid"))
	switch field(rest, "reason") {
	case "WRONG_KEY":
		return ssid + ": the passphrase is wrong"
	case "AUTH_FAILED":
		return ssid + ": the login is refused"
	}
	return ssid + ": it does not answer, or the passphrase is wrong"
}

// field is the value of key=value, key="value" or key='value' among words.
func field(text, key string) string {
	_, rest, found := strings.Cut(" "+text, " "+key+"=")
	if !found {
		return ""
	}
	if rest != "" && strings.ContainsRune(`"'`, rune(rest[0])) {
		quote, quoted := rest[0], rest[1:]
		// A quote within is escaped.
		for i := 0; i < len(quoted); i++ {
			switch quoted[i] {
			case '\\':
				i++
			case quote:
				return quoted[:i]
			}
		}
		return quoted
	}
	word, _, _ := strings.Cut(rest, " ")
	return word
}

// unescape undoes the supplicant's printf escapes of what is no ASCII.
func unescape(s string) string {
	if out, err := strconv.Unquote(`"` + strings.ReplaceAll(s, `\e`, `\x1b`) + `"`); err == nil {
		return out
	}
	return s
}
