package manifest

import (
	"fmt"
	"math"
	"path"
	"strconv"
	"strings"
	"time"
)

// value is the right-hand side of an assignment.
type value struct {
	unit string // the unit's name, for specifiers
	text string
}

// specifiers maps the letters after % to what they stand for (systemd.unit(5),
// "Specifiers"); %n and %N of a unit x are x.service and x.
func (v value) specifier(c byte) (string, bool) {
	switch c {
	case '%':
		return "%", true
	case 'n':
		return v.unit + serviceSuffix, true
	case 'N', 'p':
		return v.unit, true
	case 't':
		return StatusEntry, true
	case 'S':
		return "/var/lib", true
	}
	return "", false
}

func (v value) expand(s string) (string, error) {
	if !strings.Contains(s, "%") {
		return s, nil
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			b.WriteByte(s[i])
			continue
		}
		i++
		if i == len(s) {
			return "", fmt.Errorf("ends with %%; write %%%% for a percent sign")
		}
		with, ok := v.specifier(s[i])
		if !ok {
			return "", fmt.Errorf("specifier %%%c is unknown; there are %%%%, %%n, %%N, %%p, %%t and %%S", s[i])
		}
		b.WriteString(with)
	}
	return b.String(), nil
}

// words splits by blanks; quotes and backslash escapes work as in
// systemd.syntax(7), "Quoting". Specifiers are expanded last.
func (v value) words() ([]string, error) {
	var out []string
	var word []byte
	var quote byte
	inWord := false
	s := v.text
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '\\':
			b, n, err := unescape(s[i+1:])
			if err != nil {
				return nil, err
			}
			word, inWord, i = append(word, b), true, i+n
		case quote != 0 && c == quote:
			quote = 0
			if i+1 < len(s) && !isBlank(s[i+1]) {
				return nil, fmt.Errorf("a closing quote must end the word")
			}
		case quote == 0 && !inWord && (c == '"' || c == '\''):
			quote, inWord = c, true
		case quote == 0 && isBlank(c):
			if inWord {
				out, word, inWord = append(out, string(word)), nil, false
			}
		default:
			word, inWord = append(word, c), true
		}
	}
	if quote != 0 {
		return nil, fmt.Errorf("quote %c is not closed", quote)
	}
	if inWord {
		out = append(out, string(word))
	}
	for i := range out {
		var err error
		if out[i], err = v.expand(out[i]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' || c == '\n' }

// unescape reads what follows a backslash and returns the byte meant and how
// many bytes of s say it.
func unescape(s string) (byte, int, error) {
	if s == "" {
		return 0, 0, fmt.Errorf("ends with a backslash")
	}
	if i := strings.IndexByte(`\"'sntr`, s[0]); i >= 0 {
		return "\\\"' \n\t\r"[i], 1, nil
	}
	if s[0] == 'x' && len(s) >= 3 {
		if b, err := strconv.ParseUint(s[1:3], 16, 8); err == nil && b != 0 {
			return byte(b), 3, nil
		}
	}
	return 0, 0, fmt.Errorf(`escape \%c is unknown; there are \\ \" \' \s \n \t \r and \xHH`, s[0])
}

// timeUnits by the names of systemd.time(7).
var timeUnits = map[string]time.Duration{
	"us": time.Microsecond, "usec": time.Microsecond,
	"ms": time.Millisecond, "msec": time.Millisecond,
	"": time.Second, "s": time.Second, "sec": time.Second, "second": time.Second, "seconds": time.Second,
	"m": time.Minute, "min": time.Minute, "minute": time.Minute, "minutes": time.Minute,
	"h": time.Hour, "hr": time.Hour, "hour": time.Hour, "hours": time.Hour,
	"d": 24 * time.Hour, "day": 24 * time.Hour, "days": 24 * time.Hour,
}

// span reads a time span, "1min 30s" or "5" for seconds. "infinity" is given
// back as 0, which every key that takes it understands as no limit.
func (v value) span() (time.Duration, error) {
	s := strings.TrimSpace(v.text)
	if s == "infinity" {
		return 0, nil
	}
	if s == "" {
		return 0, fmt.Errorf("time span is empty")
	}
	var total float64
	for s != "" {
		n := strings.IndexFunc(s, func(r rune) bool { return (r < '0' || r > '9') && r != '.' })
		if n < 0 {
			n = len(s)
		}
		number, err := strconv.ParseFloat(s[:n], 64)
		if err != nil {
			return 0, fmt.Errorf(`time span %q is not understood; write "90", "1min 30s" or "infinity"`, v.text)
		}
		s = strings.TrimLeft(s[n:], " \t")
		n = strings.IndexFunc(s, func(r rune) bool { return r < 'a' || r > 'z' })
		if n < 0 {
			n = len(s)
		}
		unit, ok := timeUnits[s[:n]]
		if !ok {
			return 0, fmt.Errorf("time unit %q is unknown; there are us, ms, s, min, h and d", s[:n])
		}
		s = strings.TrimLeft(s[n:], " \t")
		total += number * float64(unit)
	}
	if total > math.MaxInt64/2 {
		return 0, fmt.Errorf("time span %q is longer than a century", v.text)
	}
	return time.Duration(total), nil
}

// size reads bytes with a suffix to the base 1024; "infinity" is 0.
func (v value) size() (int64, error) {
	if v.text == "infinity" {
		return 0, nil
	}
	digits, shift := v.text, 0
	if i := strings.IndexByte("KMGT", last(v.text)); i >= 0 {
		digits, shift = v.text[:len(v.text)-1], 10*(i+1)
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n <= 0 || n > math.MaxInt64>>shift {
		return 0, fmt.Errorf(`size %q is not understood; write bytes, "64M" or "infinity"`, v.text)
	}
	return n << shift, nil
}

func last(s string) byte {
	if s == "" {
		return 0
	}
	return s[len(s)-1]
}

func (v value) integer(low, high int64) (int64, error) {
	n, err := strconv.ParseInt(v.text, 10, 64)
	if err != nil || n < low || n > high {
		return 0, fmt.Errorf("must be a number from %d to %d, not %q", low, high, v.text)
	}
	return n, nil
}

func (v value) boolean() (bool, error) {
	switch strings.ToLower(v.text) {
	case "1", "yes", "y", "true", "t", "on":
		return true, nil
	case "0", "no", "n", "false", "f", "off":
		return false, nil
	}
	return false, fmt.Errorf("must be yes or no, not %q", v.text)
}

func cleanAbsolute(s string) error {
	if !path.IsAbs(s) || path.Clean(s) != s {
		return fmt.Errorf("must be an absolute path without detours, not %q", s)
	}
	return nil
}
