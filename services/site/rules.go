package site

import (
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// Limits that are not ours.
const (
	maxLabel     = 63 // RFC 1035, 2.3.4
	maxHostname  = 64 // Linux, HOST_NAME_MAX
	maxMetric    = 1 << 20
	maxInterface = 15    // Linux, IFNAMSIZ without the NUL
	maxFilter    = 65535 // MQTT 3.1.1, 1.5.3, bytes
)

const (
	lower  = "abcdefghijklmnopqrstuvwxyz"
	upper  = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	digits = "0123456789"
)

// notIn returns the first character of s that chars does not hold, or "".
func notIn(s, chars string) string {
	for _, r := range s {
		if !strings.ContainsRune(chars, r) {
			return string(r)
		}
	}
	return ""
}

func siteID(s string) fault {
	f := label(s, lower+digits+"-", "lower-case letters, digits and hyphens")
	if f.reason == "" {
		return f
	}
	better := strings.NewReplacer("_", "-", " ", "-", ".", "-").Replace(strings.ToLower(s))
	if label(better, lower+digits+"-", "").reason == "" {
		f.hint = better
	}
	return f
}

// label judges one label of a host name (RFC 1123, 2.1).
func label(s, chars, names string) fault {
	switch bad := notIn(s, chars); {
	case bad != "":
		return faultf("%q has %q; use %s", shorten(s), bad, names)
	case len(s) > maxLabel:
		return faultf("has %d characters, the most is %d", len(s), maxLabel)
	case s == "" || s[0] == '-' || s[len(s)-1] == '-':
		return faultf("%q must start and end with a letter or a digit", s)
	}
	return fault{}
}

func hostName(s string) fault {
	if len(s) > maxHostname {
		return faultf("has %d characters, the most is %d", len(s), maxHostname)
	}
	return dnsName(s, lower+upper+digits+"-", "letters, digits, hyphens and dots")
}

func dnsName(s, chars, names string) fault {
	if len(s) > 253 {
		return faultf("has %d characters, the most is 253", len(s))
	}
	for _, l := range strings.Split(strings.TrimSuffix(s, "."), ".") {
		if f := label(l, chars, names); f.reason != "" {
			return faultf("%q is no host name: %s", shorten(s), f.reason)
		}
	}
	return fault{}
}

// host is an IP address or a DNS name. What looks like an IPv4 address must
// be one: "10.0.0.256" is no name anybody means. Underscores are allowed, as
// resolvers do and company networks know.
func host(s string) fault {
	if _, err := netip.ParseAddr(s); err == nil {
		return fault{}
	}
	if notIn(s, digits+".") == "" || strings.Contains(s, ":") {
		return faultf("%q is no IP address", shorten(s))
	}
	return dnsName(s, lower+upper+digits+"-_", "letters, digits, hyphens, underscores and dots")
}

func ipAddress(s string) fault {
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		return fault{}
	}
	if p, err := netip.ParsePrefix(s); err == nil {
		return fault{"want an address without a prefix length", p.Addr().String()}
	}
	return faultf("%q is no IP address", shorten(s))
}

func cidr(s string) fault {
	p, err := netip.ParsePrefix(s)
	if err == nil {
		if p.Bits() == 0 || p.Addr().IsUnspecified() || p.Addr().IsMulticast() {
			return faultf("%q is no address an interface can have", s)
		}
		return fault{}
	}
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		length := "/64"
		if a.Is4() {
			length = "/24"
		}
		return fault{"want an address with its prefix length", s + length}
	}
	return faultf("%q is no address with prefix length, such as 192.0.2.10/24", shorten(s))
}

func interfaceMatch(s string) fault {
	if bad := notIn(s, lower+upper+digits+"-_.:*?"); bad != "" {
		return faultf("%q has %q; use an interface's name, with * and ?", shorten(s), bad)
	}
	if len(s) > maxInterface && !strings.Contains(s, "*") {
		return faultf("has %d characters, an interface's name has at most %d", len(s), maxInterface)
	}
	return fault{}
}

// listenAddress is [IP]:port; the empty host is every address.
func listenAddress(s string) fault {
	h, port, err := net.SplitHostPort(s)
	if err != nil {
		return fault{"want an address and a port, such as :9092 or 127.0.0.1:9092", portHint(s)}
	}
	if _, err := netip.ParseAddr(h); h != "" && err != nil {
		return faultf("%q is no IP address to listen on; leave it out for every address", shorten(h))
	}
	return portNumber(port)
}

// dialAddress is host:port, both needed, with the usual port.
func dialAddress(usual string) rule {
	example := "192.0.2.20:" + usual
	if usual == "9092" || usual == "9093" {
		example = "kafka.example.com:" + usual
	}
	return func(s string) fault {
		h, port, err := net.SplitHostPort(s)
		if err != nil {
			f := fault{reason: "want a host and a port, such as " + example}
			switch {
			case strings.Contains(s, ":"):
				f.reason = "want a host and a port, an IPv6 address in brackets, such as [2001:db8::1]:" + usual
			case host(s).reason == "":
				f.hint = s + ":" + usual
			}
			return f
		}
		if h == "" {
			return faultf("%q has no host before the colon", shorten(s))
		}
		if f := host(h); f.reason != "" {
			return f
		}
		return portNumber(port)
	}
}

func portNumber(s string) fault {
	if n, err := strconv.ParseUint(s, 10, 16); err != nil || n == 0 {
		return faultf("port %q is not a number from 1 to 65535", shorten(s))
	}
	return fault{}
}

func portHint(s string) string {
	if s != "" && portNumber(s).reason == "" {
		return ":" + s
	}
	return ""
}

// mqttFilter judges a topic filter (MQTT 3.1.1, 4.7; 5.0, 4.7 and 4.8.2).
func mqttFilter(s string) fault {
	if len(s) > maxFilter {
		return faultf("has %d bytes, the most is %d", len(s), maxFilter)
	}
	if first, _, _ := strings.Cut(s, "/"); strings.EqualFold(first, "$share") {
		return faultf("%q is a shared subscription, which only a client makes", shorten(s))
	}
	if strings.Contains(s, "\n") {
		return faultf("holds a line break")
	}
	levels := strings.Split(s, "/")
	for i, l := range levels {
		switch {
		case strings.Contains(l, "+") && l != "+":
			return faultf("%q: + must be a level of its own, as in a/+/b", shorten(s))
		case strings.Contains(l, "#") && (l != "#" || i != len(levels)-1):
			return faultf("%q: # must be the last level and alone in it, as in a/#", shorten(s))
		}
	}
	return fault{}
}

// covers is true when filter a matches every topic that b does. Equal ones
// are a matter of their own.
func covers(a, b string) bool {
	if a == b || a == "" || b == "" {
		return false
	}
	// A wildcard in the first level does not match topics that start with $.
	if strings.HasPrefix(b, "$") && (a[0] == '#' || a[0] == '+') {
		return false
	}
	for {
		la, restA, moreA := strings.Cut(a, "/")
		lb, restB, moreB := strings.Cut(b, "/")
		switch {
		case la == "#":
			return true
		case lb == "#", la != "+" && la != lb:
			return false
		case !moreB:
			return !moreA || restA == "#" // a/# matches a as well
		case !moreA:
			return false
		}
		a, b = restA, restB
	}
}
