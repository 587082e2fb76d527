package manifest

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"
)

// mark is where a section or an assignment begins.
type mark struct {
	line    int
	section string // of a section header, else ""
}

// scan finds the line of every section and assignment, which the lexer does
// not tell, and refuses what the lexer would pass over or read in a way its
// writer did not mean.
func scan(file string, text []byte) ([]mark, error) {
	fail := func(line int, format string, args ...any) ([]mark, error) {
		return nil, &SyntaxError{File: file, Line: line, Reason: fmt.Sprintf(format, args...)}
	}
	if !utf8.Valid(text) || bytes.ContainsAny(text, "\r\x00") {
		return fail(0, "must be UTF-8 text with plain line ends, without carriage return or zero byte")
	}
	var marks []mark
	inSection, continued := false, false
	lines := strings.Split(string(text), "\n")
	for i, raw := range lines {
		line, trimmed, wasContinued := i+1, strings.TrimSpace(raw), continued
		continued = strings.HasSuffix(raw, `\`)
		comment := strings.HasPrefix(trimmed, "#") || strings.HasPrefix(trimmed, ";")
		switch {
		case len(raw) > maxLine:
			return fail(line, "line is longer than %d bytes", maxLine)
		case continued && i == len(lines)-1:
			return fail(line, "the last line ends with a backslash, nothing continues it")
		case wasContinued && (comment || trimmed == ""):
			return fail(line, "a comment or an empty line stands inside a continued value")
		case wasContinued || trimmed == "":
		case comment && continued:
			return fail(line, "a comment ends with a backslash")
		case comment:
		case trimmed[0] == '[':
			if len(trimmed) < 3 || trimmed[len(trimmed)-1] != ']' || strings.ContainsAny(trimmed[1:len(trimmed)-1], "[]") {
				return fail(line, "a section is written [Name], alone on its line")
			}
			inSection = true
			marks = append(marks, mark{line, trimmed[1 : len(trimmed)-1]})
		case !inSection:
			return fail(line, "stands before the first section")
		case strings.IndexByte(trimmed, '=') < 1:
			return fail(line, "is neither a section, Key=value nor a comment")
		default:
			marks = append(marks, mark{line: line})
		}
	}
	return marks, nil
}

func keysOnly(marks []mark) []mark {
	var out []mark
	for _, m := range marks {
		if m.section == "" {
			out = append(out, m)
		}
	}
	return out
}

// nearest returns the candidate that begins with s, or else the one with the
// least edit distance to it.
func nearest(s string, candidates []string) string {
	best, least := "", 1<<30
	s = strings.ToLower(s)
	for _, c := range candidates {
		lower := strings.ToLower(c)
		d := distance(s, lower)
		if strings.HasPrefix(lower, s) {
			d = 0
		}
		if d < least {
			best, least = c, d
		}
	}
	return best
}

// distance counts the inserted, removed and replaced bytes between a and b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replace := diagonal
			if a[i] != b[j] {
				replace++
			}
			diagonal = row[j+1]
			row[j+1] = min(replace, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
