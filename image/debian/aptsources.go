package debian

import (
	"bufio"
	"bytes"
	"io"
	"io/fs"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
)

// aptSource is one enabled "deb" entry of the host's apt configuration
// (sources.list(5)) for one http or https URI.
type aptSource struct {
	uri                string // without a slash at the end
	suites, components []string
	signedBy           string
	ignoreExpiry       bool // check-valid-until=no
}

// aptSources reads every source below root in apt's order. Files and entries
// that cannot be read are passed over: a third party's broken file is not ours
// to report.
func aptSources(root fs.FS) []aptSource {
	lists, _ := fs.Glob(root, "etc/apt/sources.list.d/*")
	slices.Sort(lists)
	var all []aptSource
	for _, name := range append([]string{"etc/apt/sources.list"}, lists...) {
		data, err := fs.ReadFile(root, name)
		if err != nil {
			continue
		}
		switch path.Ext(name) {
		case ".list":
			all = append(all, parseList(data)...)
		case ".sources":
			all = append(all, parseSources(data)...)
		}
	}
	return withURLs(root, all)
}

var listOptions = regexp.MustCompile(`^\[([^\]]*)\]\s*`)

// parseList reads the one-line format: deb [option=value ...] uri suite
// component...
func parseList(data []byte) []aptSource {
	var all []aptSource
	for line := range strings.Lines(string(data)) {
		line, _, _ = strings.Cut(line, "#")
		kind, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		if kind != "deb" {
			continue
		}
		rest = strings.TrimSpace(rest)
		var s aptSource
		if m := listOptions.FindStringSubmatch(rest); m != nil {
			rest = rest[len(m[0]):]
			s.options(m[1])
		}
		words := strings.Fields(rest)
		if len(words) < 3 {
			continue
		}
		s.uri, s.suites, s.components = words[0], words[1:2], words[2:]
		all = append(all, s)
	}
	return all
}

func (s *aptSource) options(text string) {
	for _, option := range strings.Fields(text) {
		name, value, _ := strings.Cut(option, "=")
		switch strings.ToLower(name) {
		case "signed-by":
			s.signedBy = value
		case "check-valid-until":
			s.ignoreExpiry = isNo(value)
		}
	}
}

// parseSources reads the deb822 format; one paragraph may name several URIs.
func parseSources(data []byte) []aptSource {
	var all []aptSource
	p := newStanzas(bytes.NewReader(data), "Types", "URIs", "Suites", "Components", "Signed-By", "Enabled", "Check-Valid-Until")
	for p.next() == nil {
		if isNo(p.text(5)) || !slices.Contains(strings.Fields(p.text(0)), "deb") {
			continue
		}
		for _, uri := range strings.Fields(p.text(1)) {
			all = append(all, aptSource{
				uri:          uri,
				suites:       strings.Fields(p.text(2)),
				components:   strings.Fields(p.text(3)),
				signedBy:     p.text(4),
				ignoreExpiry: isNo(p.text(6)),
			})
		}
	}
	return all
}

// withURLs keeps what is fetched over http and replaces a mirror list by its
// first http entry (apt-transport-mirror(1)).
func withURLs(root fs.FS, all []aptSource) []aptSource {
	var kept []aptSource
	for _, s := range all {
		if list, ok := strings.CutPrefix(s.uri, "mirror+file:"); ok {
			s.uri = firstURL(root, list)
		}
		if isHTTP(s.uri) {
			s.uri = strings.TrimRight(s.uri, "/")
			kept = append(kept, s)
		}
	}
	return kept
}

func firstURL(root fs.FS, name string) string {
	f, err := root.Open(path.Clean(strings.TrimLeft(name, "/")))
	if err != nil {
		return ""
	}
	defer f.Close()
	lines := bufio.NewScanner(io.LimitReader(f, maxLine))
	for lines.Scan() {
		if words := strings.Fields(lines.Text()); len(words) > 0 && isHTTP(words[0]) {
			return words[0]
		}
	}
	return ""
}

func isHTTP(uri string) bool {
	u, err := url.Parse(uri)
	return err == nil && u.Host != "" && (u.Scheme == "http" || u.Scheme == "https")
}

func isNo(value string) bool {
	return slices.Contains([]string{"no", "false", "without", "off", "disable", "0"}, strings.ToLower(value))
}

// expiryOption is the flat form that image builders write; the nested form of
// apt.conf(5) is not read.
var expiryOption = regexp.MustCompile(`(?mi)^\s*Acquire::Check-Valid-Until\s+"?(\w+)"?\s*;`)

// ignoresExpiry tells whether the host's apt does not check Valid-Until; the
// last setting counts.
func ignoresExpiry(root fs.FS) bool {
	names, _ := fs.Glob(root, "etc/apt/apt.conf.d/*")
	slices.Sort(names)
	ignore := false
	for _, name := range append(names, "etc/apt/apt.conf") {
		data, err := fs.ReadFile(root, name)
		if err != nil {
			continue
		}
		for _, m := range expiryOption.FindAllSubmatch(data, -1) {
			ignore = isNo(string(m[1]))
		}
	}
	return ignore
}
