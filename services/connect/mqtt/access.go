package mqtt

import (
	"strings"

	"github.com/waysideos/wayside/services/site"
)

// access says which topics a client may publish to and subscribe to. Without
// rules everybody may do everything.
type access []site.MQTTRule

const shared = "$share/"

func (a access) mayPublish(client, user, topic string) bool {
	return a.may(client, user, func(r *site.MQTTRule) []string { return r.Publish }, func(levels []string) bool {
		return match(levels, topic)
	})
}

// maySubscribe wants one allowed filter that covers all that is asked for.
func (a access) maySubscribe(client, user, filter string) bool {
	if rest, ok := strings.CutPrefix(filter, shared); ok {
		_, filter, _ = strings.Cut(rest, "/")
	}
	return a.may(client, user, func(r *site.MQTTRule) []string { return r.Subscribe }, func(levels []string) bool {
		return coversAll(levels, strings.Split(filter, "/"))
	})
}

func (a access) may(client, user string, list func(*site.MQTTRule) []string, ok func([]string) bool) bool {
	if len(a) == 0 {
		return true
	}
	for i := range a {
		r := &a[i]
		if r.User != "*" && r.User != user && !(r.User == anonymousUser && user == "") {
			continue
		}
		for _, filter := range list(r) {
			if levels, good := fillIn(filter, client, user); good && ok(levels) {
				return true
			}
		}
	}
	return false
}

// anonymousUser names clients without a name in rules.
const anonymousUser = "anonymous"

// fillIn puts client and user into a filter. A name that would be more than a
// level, or a wildcard, matches nothing.
func fillIn(filter, client, user string) (levels []string, ok bool) {
	levels = strings.Split(filter, "/")
	for i, l := range levels {
		for word, value := range map[string]string{"{client}": client, "{user}": user} {
			if !strings.Contains(l, word) {
				continue
			}
			if value == "" || strings.ContainsAny(value, "+#/") {
				return nil, false
			}
			levels[i] = strings.ReplaceAll(levels[i], word, value)
		}
	}
	return levels, true
}

// coversAll is true when filter a matches every topic that b does.
func coversAll(a, b []string) bool {
	if b[0] != "" && strings.HasPrefix(b[0], "$") && (a[0] == "#" || a[0] == "+") {
		return false // a wildcard does not begin a match of $SYS
	}
	for i, want := range a {
		if want == "#" {
			return true
		}
		if i >= len(b) || b[i] == "#" || (want != "+" && want != b[i]) {
			return false
		}
	}
	return len(a) == len(b)
}
