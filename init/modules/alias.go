// Package modules loads kernel modules for the devices that ask for them:
// by the modalias that a device shows in sysfs, matched against the
// modules.alias and modules.dep files of depmod.
package modules

import (
	"bufio"
	"fmt"
	"io"
	"strings"
)

// Aliases finds modules by alias. The aliases of one bus, thousands for PCI,
// are kept apart and compared by their literal head first.
type Aliases struct {
	// By what precedes the colon: "" if there is none, "*" if it holds a
	// wildcard, as in "acpi*:PNP0C0C:*".
	buses map[string][]alias
}

type alias struct {
	head    string // literal part up to the first wildcard
	pattern string // the rest; "" means that head is all
	module  string
}

const wildcards = `*?[\`

// ParseAliases reads a modules.alias file: "alias PATTERN MODULE" a line.
func ParseAliases(r io.Reader) (*Aliases, error) {
	a := &Aliases{buses: map[string][]alias{}}
	s := bufio.NewScanner(r)
	for s.Scan() {
		f := strings.Fields(s.Text())
		if len(f) != 3 || f[0] != "alias" {
			continue // comments, and what later depmods may add
		}
		// The characters - and _ are one to modprobe in names of modules, and
		// so they are in aliases without a bus ("crypto-sha256", "fs-ext4").
		pattern := f[1]
		bus, _, found := strings.Cut(pattern, ":")
		switch {
		case !found:
			bus, pattern = "", normal(pattern)
		case strings.ContainsAny(bus, wildcards):
			bus = "*"
		}
		cut := strings.IndexAny(pattern, wildcards)
		if cut < 0 {
			cut = len(pattern)
		}
		a.buses[bus] = append(a.buses[bus], alias{pattern[:cut], pattern[cut:], normal(f[2])})
	}
	if err := s.Err(); err != nil {
		return nil, fmt.Errorf("read modules.alias: %w", err)
	}
	return a, nil
}

// Match returns the modules for a modalias, each once.
func (a *Aliases) Match(modalias string) []string {
	bus, _, found := strings.Cut(modalias, ":")
	if !found {
		bus, modalias = "", normal(modalias)
	}
	var out []string
	seen := map[string]bool{}
	for _, list := range [][]alias{a.buses[bus], a.buses["*"]} {
		for _, al := range list {
			if !strings.HasPrefix(modalias, al.head) || seen[al.module] {
				continue
			}
			if glob(al.pattern, modalias[len(al.head):]) {
				seen[al.module] = true
				out = append(out, al.module)
			}
		}
	}
	return out
}

// glob matches like fnmatch(3) without flags: * any run, ? one character,
// [..] a class. It never takes more than len(pattern)*len(s) steps.
func glob(pattern, s string) bool {
	p, i := 0, 0
	star, mark := -1, 0 // where to go on when the part after the last * fails
	for i < len(s) {
		if p < len(pattern) && pattern[p] == '*' {
			star, mark = p, i
			p++
			continue
		}
		if n, ok := one(pattern[p:], s[i]); ok {
			p += n
			i++
			continue
		}
		if star < 0 {
			return false
		}
		mark++
		p, i = star+1, mark
	}
	return strings.Trim(pattern[p:], "*") == ""
}

// one matches a single character and returns the length of what matched it.
func one(pattern string, c byte) (int, bool) {
	if pattern == "" {
		return 0, false
	}
	switch pattern[0] {
	case '?':
		return 1, true
	case '\\':
		if len(pattern) > 1 {
			return 2, pattern[1] == c
		}
	case '[':
		if end := strings.IndexByte(pattern, ']'); end > 1 {
			return end + 1, class(pattern[1:end], c)
		}
	}
	return 1, pattern[0] == c
}

func class(set string, c byte) bool {
	negated := set[0] == '!' || set[0] == '^'
	if negated {
		set = set[1:]
	}
	in := false
	for k := 0; k < len(set); k++ {
		if k+2 < len(set) && set[k+1] == '-' {
			in = in || set[k] <= c && c <= set[k+2]
			k += 2
			continue
		}
		in = in || set[k] == c
	}
	return in != negated
}

// normal is the name by which the kernel knows a module: dashes in file names
// and aliases are underscores.
func normal(name string) string { return strings.ReplaceAll(name, "-", "_") }
