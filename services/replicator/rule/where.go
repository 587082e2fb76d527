package rule

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/site"
)

// condition is a site.Condition, ready to be asked.
type condition struct {
	site.Condition
	path         []string
	above, below *float64
}

func newCondition(q site.Condition) (condition, error) {
	c := condition{Condition: q}
	if q.Field != "" {
		c.path = strings.Split(q.Field, ".")
	}
	for _, n := range []struct {
		text site.Value
		to   **float64
	}{{q.Above, &c.above}, {q.Below, &c.below}} {
		if n.text == "" {
			continue
		}
		f, err := strconv.ParseFloat(string(n.text), 64)
		if err != nil {
			return c, fmt.Errorf("%q is no number", n.text)
		}
		*n.to = &f
	}
	return c, nil
}

func (c condition) holds(rec *kgo.Record, v *value) bool {
	if c.Key != "" {
		return match(c.Key, string(rec.Key))
	}
	text, there := c.look(rec, v)
	switch {
	case c.Exists != nil && *c.Exists != there,
		c.Is != "" && (!there || !equal(text, string(c.Is))),
		c.Not != "" && there && equal(text, string(c.Not)),
		c.Like != "" && (!there || !match(c.Like, text)):
		return false
	}
	if c.above == nil && c.below == nil {
		return true
	}
	n, err := strconv.ParseFloat(text, 64)
	return there && err == nil && (c.above == nil || n > *c.above) && (c.below == nil || n < *c.below)
}

// look is what the condition asks about, as text.
func (c condition) look(rec *kgo.Record, v *value) (string, bool) {
	if c.Header != "" {
		for i := len(rec.Headers) - 1; i >= 0; i-- {
			if rec.Headers[i].Key == c.Header {
				return string(rec.Headers[i].Value), true
			}
		}
		return "", false
	}
	got, ok := v.at(c.path)
	switch got := got.(type) {
	case string:
		return got, true
	case json.Number:
		return got.String(), true
	case bool:
		return strconv.FormatBool(got), true
	case nil:
		return "", false // null is as good as not there
	}
	return string(encode(got)), ok
}

// equal compares as numbers what is numbers: 80 is 80.0.
func equal(a, b string) bool {
	if a == b {
		return true
	}
	x, err1 := strconv.ParseFloat(a, 64)
	y, err2 := strconv.ParseFloat(b, 64)
	return err1 == nil && err2 == nil && x == y
}

// match takes * for any text and ? for one character. It never looks at a
// character of text more often than there are stars.
func match(pattern, text string) bool {
	p, s := []rune(pattern), []rune(text)
	i, j, star, mark := 0, 0, -1, 0
	for j < len(s) {
		switch {
		case i < len(p) && (p[i] == '?' || p[i] == s[j]) && p[i] != '*':
			i++
			j++
		case i < len(p) && p[i] == '*':
			star, mark = i, j
			i++
		case star >= 0:
			mark++
			i, j = star+1, mark
		default:
			return false
		}
	}
	for i < len(p) && p[i] == '*' {
		i++
	}
	return i == len(p)
}
