package site

import (
	"bytes"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
)

// MaxSize is the largest profile that is read, in bytes.
const MaxSize = 1 << 20

// maxBlank is how many empty lines in a row are read: the YAML parser takes
// time quadratic in those of a block of text.
const maxBlank = 100

// Parse reads a profile and fills in every default, so that readers need no
// accessors: in a *Profile from Parse, from Default or from a round trip
// through Marshal, every Hostname, Listen, AutoCreate, DHCP4, RA and
// Partitions is set. What stays empty means "none": no links, no MQTT (nil),
// no advertised address. file is only used in messages. A profile with
// anything wrong gives a nil Profile and an error that is always of type
// Errors and holds everything that is wrong, not only the first.
func Parse(file string, data []byte) (*Profile, error) { return ParseFor(file, data, Own{}) }

// ParseFor is Parse for one box. Variables that the profile does not declare
// are passed over: they may be another profile's.
func ParseFor(file string, data []byte, own Own) (*Profile, error) {
	text, bad := cleanText(data)
	if bad != nil {
		bad.File = file
		return nil, Errors{*bad}
	}
	root, bad := parseTree(text)
	if bad != nil {
		bad.File = file
		return nil, Errors{*bad}
	}
	p := &Profile{}
	r := newReport(file)
	decodeProfile(root, p, r, own)
	checkProfile(p, r)
	if errs := r.errors(); len(errs) > 0 {
		return nil, errs
	}
	own.take(p) // what the profile itself says was to be right all the same
	p.fill()
	return p, nil
}

// Marshal writes the effective profile, defaults included: the same bytes
// for the same profile, and Parse reads them back as an equal one.
func Marshal(p *Profile) ([]byte, error) {
	b, err := yaml.MarshalWithOptions(p, yaml.Indent(2), yaml.IndentSequence(true))
	if err != nil {
		return nil, fmt.Errorf("write site profile: %v", err)
	}
	if !bytes.HasSuffix(b, []byte("\n")) {
		b = append(b, '\n')
	}
	return b, nil
}

// cleanText takes what editors leave in a file and returns plain UTF-8 with
// \n line ends. A byte order mark and CRLF are accepted, since profiles are
// written on laptops of every kind.
func cleanText(data []byte) (string, *FieldError) {
	if len(data) > MaxSize {
		return "", &FieldError{Line: 1, Column: 1, Reason: fmt.Sprintf("the file has %d bytes, the most is %d", len(data), MaxSize)}
	}
	if bytes.HasPrefix(data, []byte{0xff, 0xfe}) || bytes.HasPrefix(data, []byte{0xfe, 0xff}) {
		return "", &FieldError{Line: 1, Column: 1, Reason: "the file is UTF-16; save it as UTF-8"}
	}
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	text := strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(string(data))
	lines := strings.Split(text, "\n")
	blank := 0
	for n, line := range lines {
		if blank++; strings.Trim(line, " \t") != "" {
			blank = 0
		}
		if blank > maxBlank {
			return "", &FieldError{Line: n + 1, Column: 1, Reason: fmt.Sprintf("more than %d empty lines in a row", maxBlank)}
		}
		if col, reason := badCharacter(line); reason != "" {
			return "", &FieldError{Line: n + 1, Column: col, Reason: reason}
		}
		if strings.Trim(line, " \t") == "" {
			lines[n] = "" // a tab on an empty line is nobody's indentation
		}
	}
	return strings.Join(lines, "\n"), nil
}

// badCharacter returns the column of the first character that a line of a
// profile must not hold, and why.
func badCharacter(line string) (col int, reason string) {
	indent := len(line) - len(strings.TrimLeft(line, " "))
	blank := strings.Trim(line, " \t") == ""
	for i, r := range line {
		col++
		switch {
		case r == utf8.RuneError && invalidAt(line, i):
			return col, fmt.Sprintf("byte 0x%02x is not UTF-8; save the file as UTF-8", line[i])
		case r == '\t' && i == indent && !blank:
			return col, "the line is indented with a tab; use spaces"
		case r != '\t' && unicode.IsControl(r):
			return col, fmt.Sprintf("control character %U is not allowed", r)
		}
	}
	return 0, ""
}

// invalidAt tells a byte that is no UTF-8 from a replacement character that
// someone really wrote.
func invalidAt(s string, i int) bool {
	_, size := utf8.DecodeRuneInString(s[i:])
	return size == 1
}
