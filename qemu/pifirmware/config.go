package pifirmware

import (
	"slices"
	"strconv"
	"strings"
)

// maxLine is what the firmware reads of a line of config.txt, in characters.
const maxLine = 98

// config is what applies to this machine of config.txt: the last of a key
// counts.
type config map[string]string

// parse adds a file's settings. A line in brackets begins a section; applies
// are the names of those that count, besides [all]. include is called for files
// that stand in for the line that names them.
func (c config) parse(text string, applies []string, tryboot bool, include func(file string)) {
	on := true
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		line = strings.TrimSpace(line[:min(len(line), maxLine)])
		if strings.HasPrefix(line, "[") && strings.HasSuffix(line, "]") {
			name := strings.ToLower(strings.Trim(line, "[]"))
			on = name == "all" || slices.Contains(applies, name) || name == "tryboot" && tryboot
			continue
		}
		if !on || line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if file, found := strings.CutPrefix(line, "include "); found {
			include(strings.TrimSpace(file))
			continue
		}
		if key, value, found := strings.Cut(line, "="); found {
			c[strings.TrimSpace(key)] = strings.TrimSpace(value)
		}
	}
}

func (c config) text(key, otherwise string) string {
	if v, found := c[key]; found {
		return v
	}
	return otherwise
}

func (c config) number(key string, otherwise int) int {
	n, err := strconv.Atoi(c[key])
	if err != nil || n <= 0 {
		return otherwise
	}
	return n
}

func (c config) flag(key string, otherwise bool) bool {
	if v, found := c[key]; found {
		n, err := strconv.Atoi(v)
		return err == nil && n != 0
	}
	return otherwise
}

// maxIncludes bounds files that include each other.
const maxIncludes = 8

// readConfig reads config.txt, or tryboot.txt in its place when that is asked
// for, with what it includes. Without one everything is at its default.
func (f *folder) readConfig(tryboot bool) error {
	f.c = config{}
	name := "config.txt"
	if tryboot {
		if _, err := f.read("tryboot.txt"); err == nil {
			name = "tryboot.txt"
		}
	}
	read := 0
	var include func(file string)
	include = func(file string) {
		if read++; read > maxIncludes {
			return
		}
		data, err := f.read(file)
		if err != nil {
			f.note("there is no %s", file)
			return
		}
		f.c.parse(string(data), f.m.Filters, tryboot, include)
	}
	if include(name); read > maxIncludes {
		return noBoot("%s includes more than %d files", name, maxIncludes)
	}
	return nil
}
