package manifest

import (
	"bytes"
	"fmt"
	"path"
	"strings"

	"github.com/coreos/go-systemd/v22/unit"
)

// maxLine is a little below the lexer's limit, so that ours, which knows the
// line's number, speaks first.
const maxLine = 2000

// SyntaxError is one thing wrong in a unit file.
type SyntaxError struct {
	File   string
	Line   int    // from 1; 0 when the file as a whole is meant
	Key    string // "" outside of an assignment
	Reason string
}

func (e *SyntaxError) Error() string {
	where := e.File
	if e.Line > 0 {
		where = fmt.Sprintf("%s:%d", e.File, e.Line)
	}
	if e.Key != "" {
		where += ": " + e.Key
	}
	return where + ": " + e.Reason
}

// ParseUnit reads a .service file; its base name names the unit. Errors are
// of type *SyntaxError.
func ParseUnit(file string, text []byte) (Unit, error) {
	name := strings.TrimSuffix(path.Base(file), serviceSuffix)
	u := newUnit(name, file)
	if err := parse(file, name, text, &u, unitKeys); err != nil {
		return Unit{}, err
	}
	if key, reason := checkUnit(&u); reason != "" {
		return Unit{}, &SyntaxError{File: file, Key: key, Reason: reason}
	}
	return u, nil
}

// ParseSocket reads a .socket file; its base name names the unit. Errors are
// of type *SyntaxError.
func ParseSocket(file string, text []byte) (Socket, error) {
	name := strings.TrimSuffix(path.Base(file), socketSuffix)
	s := newSocket(name, file)
	if err := parse(file, name, text, &s, socketKeys); err != nil {
		return Socket{}, err
	}
	if len(s.Listen) == 0 {
		return Socket{}, &SyntaxError{File: file, Key: "ListenStream", Reason: "is missing"}
	}
	return s, nil
}

// parse assigns every option of text to dst by the table of its kind.
func parse[T any](file, name string, text []byte, dst *T, table []key[T]) error {
	if err := checkUnitName(name); err != nil {
		return &SyntaxError{File: file, Reason: err.Error()}
	}
	marks, err := scan(file, text)
	if err != nil {
		return err
	}
	options, err := unit.DeserializeOptions(bytes.NewReader(text))
	if err != nil {
		return &SyntaxError{File: file, Reason: err.Error()}
	}
	if err := checkSections(file, marks, table); err != nil {
		return err
	}
	assigned := keysOnly(marks)
	if len(assigned) != len(options) {
		return &SyntaxError{File: file, Reason: "is not understood line by line; write one assignment a line"}
	}
	for i, o := range options {
		k, err := lookup(table, o.Section, o.Name)
		if err == nil {
			err = k.set(dst, value{unit: name, text: strings.ReplaceAll(o.Value, "\\\n", " ")})
		}
		if err != nil {
			return &SyntaxError{File: file, Line: assigned[i].line, Key: o.Name, Reason: err.Error()}
		}
	}
	return nil
}

// lookup finds a key; the error of an unknown one names the nearest valid.
func lookup[T any](table []key[T], section, name string) (key[T], error) {
	var names []string
	for _, k := range table {
		if k.section != section {
			continue
		}
		if k.name == name {
			return k, nil
		}
		names = append(names, k.name)
	}
	for _, k := range table {
		if k.name == name {
			return key[T]{}, fmt.Errorf("belongs into section [%s], not [%s]", k.section, section)
		}
	}
	return key[T]{}, fmt.Errorf("unknown key in section [%s]; the nearest is %s", section, nearest(name, names))
}

func checkSections[T any](file string, marks []mark, table []key[T]) error {
	var sections []string
	for _, k := range table {
		if len(sections) == 0 || sections[len(sections)-1] != k.section {
			sections = append(sections, k.section)
		}
	}
	for _, m := range marks {
		if m.section == "" {
			continue
		}
		known := false
		for _, s := range sections {
			known = known || s == m.section
		}
		if !known {
			return &SyntaxError{File: file, Line: m.line, Reason: fmt.Sprintf(
				"unknown section [%s]; the nearest is [%s]", m.section, nearest(m.section, sections))}
		}
	}
	return nil
}

// checkUnit says what single keys cannot: how they fit together.
func checkUnit(u *Unit) (key, reason string) {
	switch {
	case len(u.ExecStart) == 0:
		return "ExecStart", "is missing"
	case u.Watchdog > 0 && u.Type != Notify:
		return "WatchdogSec", "needs Type=notify, keepalives come over the same socket"
	case u.RestartMaxDelay < u.RestartDelay:
		return "RestartMaxDelaySec", fmt.Sprintf("is %v, below RestartSec of %v", u.RestartMaxDelay, u.RestartDelay)
	case u.MemoryMax > 0 && u.MemoryHigh > u.MemoryMax:
		return "MemoryHigh", fmt.Sprintf("is %d bytes, above MemoryMax of %d", u.MemoryHigh, u.MemoryMax)
	case len(u.AmbientCapabilities) > 0 && u.User == "":
		return "AmbientCapabilities", "needs User, root has them anyhow"
	}
	return "", ""
}

// checkUnitName keeps a unit's name fit for a path, a cgroup and the console.
func checkUnitName(name string) error {
	if name == "" || len(name) > 64 {
		return fmt.Errorf("a unit's name has 1 to 64 characters")
	}
	for _, r := range name {
		if (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '_' {
			return fmt.Errorf("a unit's name holds a-z, 0-9, - and _, not %q", r)
		}
	}
	return nil
}
