package group

import (
	"strings"
	"testing"
)

func TestRegexp(t *testing.T) {
	for expr, ok := range map[string]bool{
		"orders-.*": true, "[a-z]{1,64}": true, "(": false,
		strings.Repeat("a", maxRegex+1):           false,
		strings.Repeat("(?:.?){999}", 300):        false, // 3 KB that take 170 MB
		"(?:(?:a{100}){100}){2}":                  false,
		strings.Repeat("topic-[0-9]+|", 50) + "x": true,
	} {
		if _, err := Regexp(expr); (err == nil) != ok {
			t.Errorf("%.40q: got %v, want ok %v", expr, err, ok)
		}
	}
	re, err := Regexp("a|b")
	if err != nil || re.MatchString("ab") || !re.MatchString("b") {
		t.Errorf("got %v, %v, want the whole name matched", re, err)
	}
}
