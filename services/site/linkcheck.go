package site

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

func (c checker) links(path string, links []Link) {
	at := func(i int) string { return fmt.Sprintf("%s[%d]", path, i) }
	for i := range links {
		c.link(at(i), &links[i])
	}
	c.unique(len(links), func(i int) (string, string) { return links[i].Name, at(i) + ".name" })
	for i := range links {
		c.kept(at(i), &links[i], links)
	}
}

// kept refuses what would go in a circle: batches are not opened, so nobody
// can see in their records where they have been, and names have to tell.
func (c checker) kept(path string, l *Link, links []Link) {
	if l.Compression != KeepBatches {
		return
	}
	if l.Direction == Down || l.Prefix == "" {
		c.value(path+".compression", "", "keep is for links up with a prefix: records in kept batches do not say where they have been")
		return
	}
	if l.Guarantee != ExactlyOnce {
		// Without transactions a batch that is taken behind a refused one stays.
		c.value(path+".compression", "", "keep needs guarantee: exactly-once")
	}
	for _, down := range links {
		for _, t := range down.Topics {
			start, wild := strings.CutSuffix(t, "*")
			if down.Direction == Down && (strings.HasPrefix(start, l.Prefix) || wild && strings.HasPrefix(l.Prefix, start)) {
				c.value(path+".compression", "", "keep: link %s would carry topics that begin with %q back, which only records that are not kept in batches can prevent", down.Name, l.Prefix)
			}
		}
	}
}

func (c checker) link(path string, l *Link) {
	c.text(path+".name", l.Name, siteID)
	c.texts(path+".bootstrap", l.Bootstrap, dialAddress("9092"))
	c.texts(path+".topics", l.Topics, topicMatch)
	c.text(path+".prefix", l.Prefix, topicPrefix)
	if l.TLS != nil {
		c.clientTLS(path+".tls", l.TLS)
	}
	if l.SASL != nil {
		c.clientSASL(path+".sasl", l.SASL, l.TLS != nil)
	}
	c.text(path+".direction", l.Direction, oneOf(Up, Down))
	c.text(path+".guarantee", l.Guarantee, oneOf(ExactlyOnce))
	c.text(path+".compression", l.Compression, oneOf("zstd", "lz4", "snappy", "gzip", "none", KeepBatches))
	c.text(path+".dead_letter", l.DeadLetter, topicName)
	c.texts(path+".groups", l.Groups, groupMatch)
	if len(l.Groups) > 0 && l.Direction == Down {
		c.key(path+".groups", "", "are of the box, which a link down carries nothing from")
	}
	for j, t := range l.Topics {
		if len(l.Prefix)+len(t) > maxTopicName {
			c.value(fmt.Sprintf("%s.topics[%d]", path, j), "", "with the prefix before it the name is longer than %d characters", maxTopicName)
		}
	}
	if len(l.Topics) == 0 && len(l.Rules) == 0 {
		c.key(path, "", "carries nothing: give it topics, or rules")
	}
	if len(l.Rules) > maxRules {
		c.key(path+".rules", "", "has %d rules, the most is %d: each reads the broker for itself", len(l.Rules), maxRules)
	}
	at := func(i int) string { return fmt.Sprintf("%s.rules[%d]", path, i) }
	for i := range l.Rules {
		c.linkRule(at(i), &l.Rules[i])
	}
	c.unique(len(l.Rules), func(i int) (string, string) { return l.Rules[i].Name, at(i) + ".name" })
	c.oneWay(path, l)
	c.budget(path+".budget", &l.Budget)
}

const maxRules = 16

// oneWay refuses two ways of carrying a topic that end in one topic: its
// records would be there twice.
func (c checker) oneWay(path string, l *Link) {
	type way struct{ from, to string }
	first := map[way]string{}
	add := func(at, from, to string) {
		w := way{from, cmp.Or(to, l.Prefix+"{topic}")}
		if other, ok := first[w]; ok {
			c.value(at, "", "%q is carried to the same topic by %s: give one of them a name of its own with to", shorten(from), other)
			return
		}
		first[w] = at
	}
	for i, t := range l.Topics {
		add(fmt.Sprintf("%s.topics[%d]", path, i), t, "")
	}
	for i, r := range l.Rules {
		for j, t := range r.Topics {
			add(fmt.Sprintf("%s.rules[%d].topics[%d]", path, i, j), t, r.To)
		}
	}
}

func (c checker) linkRule(path string, r *LinkRule) {
	c.text(path+".name", r.Name, siteID)
	c.texts(path+".topics", r.Topics, topicMatch)
	c.text(path+".to", r.To, topicTemplate)
	c.text(path+".priority", r.Priority, oneOf(High, Normal, Low))
	for i := range r.Where {
		c.condition(fmt.Sprintf("%s.where[%d]", path, i), &r.Where[i])
	}
	c.texts(path+".fields", r.Fields, fieldPath)
	c.text(path+".newest_first", r.NewestFirst, span(time.Second, 7*24*time.Hour))
	if r.NewestFirst != "" && r.Window != nil {
		c.key(path+".newest_first", "", "cannot be with window: summaries need records in order")
	}
	if r.Sample < 0 {
		c.value(path+".sample", "", "want one record of so many, got %d", r.Sample)
	}
	if w := r.Window; w != nil {
		c.text(path+".window.every", w.Every, span(time.Second, 24*time.Hour))
		c.text(path+".window.grace", w.Grace, span(0, 24*time.Hour))
		c.texts(path+".window.fields", w.Fields, fieldPath)
		c.texts(path+".window.functions", w.Functions, oneOf(windowFunctions...))
		if len(r.Fields) > 0 || r.Sample > 0 {
			c.key(path+".window", "", "carries summaries, which fields and sample of the rule have no effect on")
		}
		if len(w.Fields) == 0 && slices.ContainsFunc(w.Functions, func(f string) bool { return f != "count" }) {
			c.key(path+".window", "", "needs fields: which numbers to sum up")
		}
	}
}

func (c checker) condition(path string, q *Condition) {
	of := 0
	for _, s := range []string{q.Key, q.Header, q.Field} {
		if s != "" {
			of++
		}
	}
	if of != 1 {
		c.key(path, "", "want one of key, header and field: what to look at")
		return
	}
	c.text(path+".field", q.Field, fieldPath)
	c.text(path+".above", string(q.Above), decimal)
	c.text(path+".below", string(q.Below), decimal)
	asked := q.Is != "" || q.Not != "" || q.Like != "" || q.Above != "" || q.Below != "" || q.Exists != nil
	switch {
	case q.Key != "" && asked:
		c.key(path, "", "key is a pattern and takes no further word")
	case q.Key == "" && !asked:
		c.key(path, "", "want one of is, not, like, above, below and exists")
	}
}

func (c checker) budget(path string, b *Budget) {
	c.text(path+".rate", b.Rate, rate)
	c.text(path+".day", b.Day, size)
	c.text(path+".month", b.Month, size)
	for i, w := range b.Except {
		at := fmt.Sprintf("%s.except[%d]", path, i)
		c.text(at+".from", w.From, clock)
		c.text(at+".to", w.To, clock)
		c.text(at+".rate", w.Rate, func(s string) fault {
			if s == "none" {
				return fault{}
			}
			return rate(s)
		})
		c.texts(at+".days", w.Days, oneOf("mon", "tue", "wed", "thu", "fri", "sat", "sun"))
	}
}

// groupName is a consumer group's; none may be named.
func groupName(s string) fault {
	if len(s) > maxTopicName {
		return faultf("has %d characters, the most is %d", len(s), maxTopicName)
	}
	return fault{}
}

// groupMatch is a consumer group's name, or how it begins.
func groupMatch(s string) fault {
	start, wild := strings.CutSuffix(s, "*")
	switch {
	case strings.Contains(start, "*"):
		return faultf("%q: * may only stand at the end", shorten(s))
	case s == "" || len(start) > maxTopicName:
		return faultf("want the name of a consumer group, or how it begins and *")
	case strings.HasPrefix(start, "wayside.link.") && !wild:
		return faultf("%q is the link's own", shorten(s))
	}
	return fault{}
}

// topicTemplate is a topic's name with {topic} and {site} in it.
func topicTemplate(s string) fault {
	plain := strings.NewReplacer("{topic}", "t", "{site}", "s").Replace(s)
	if i := strings.IndexAny(plain, "{}"); i >= 0 {
		word, _, _ := strings.Cut(strings.TrimLeft(plain[i:], "{"), "}")
		return fault{faultf("%q: the words in braces are {topic} and {site}", shorten(s)).reason, braced(nearest(word, []string{"topic", "site"}))}
	}
	return topicName(plain)
}

func braced(word string) string {
	if word == "" {
		return ""
	}
	return "{" + word + "}"
}

func fieldPath(s string) fault {
	if slices.Contains(strings.Split(s, "."), "") {
		return faultf("%q is no field, such as temperature or motor.temperature", shorten(s))
	}
	return fault{}
}

func decimal(s string) fault {
	if _, err := strconv.ParseFloat(s, 64); err != nil {
		return faultf("want a number, got %q", shorten(s))
	}
	return fault{}
}

func span(low, high time.Duration) rule {
	return func(s string) fault {
		d, err := time.ParseDuration(s)
		if err != nil {
			f := faultf("want a time such as 10s, 5m or 1h, got %q", shorten(s))
			if _, err := strconv.Atoi(s); err == nil {
				f.hint = s + "s"
			}
			return f
		}
		if d < low || d > high {
			return faultf("want %s to %s, got %s", low, high, d)
		}
		return fault{}
	}
}

func clock(s string) fault {
	if _, err := time.Parse("15:04", s); err != nil {
		return faultf("want a time of day such as 22:00, got %q", shorten(s))
	}
	return fault{}
}

func rate(s string) fault {
	if n, err := ParseRate(s); err != nil || n <= 0 {
		return fault{"want a rate such as 64kbit/s or 1MB/s, got " + strconv.Quote(shorten(s)), rateHint(s)}
	}
	return fault{}
}

func rateHint(s string) string {
	if n, err := ParseSize(s); err == nil && n > 0 {
		return s + "/s"
	}
	return ""
}

func size(s string) fault {
	if n, err := ParseSize(s); err != nil || n <= 0 {
		return faultf("want a size such as 500MB, got %q", shorten(s))
	}
	return fault{}
}

// units of sizes; powers of ten, as uplinks are sold.
var units = []struct {
	word  string
	bytes float64
}{
	{"kbit", 1e3 / 8}, {"Mbit", 1e6 / 8}, {"Gbit", 1e9 / 8}, {"kB", 1e3}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"B", 1},
}

// ParseSize reads a number of bytes such as 500MB; "" is 0.
func ParseSize(s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	for _, u := range units {
		if digits, ok := strings.CutSuffix(s, u.word); ok {
			n, err := strconv.ParseFloat(strings.TrimSpace(digits), 64)
			if err != nil || n < 0 || n*u.bytes > 1e18 {
				return 0, fmt.Errorf("%q is no size", s)
			}
			return int64(n * u.bytes), nil
		}
	}
	return 0, fmt.Errorf("%q has no unit", s)
}

// ParseRate reads bytes a second, such as 64kbit/s; "" is 0.
func ParseRate(s string) (int64, error) {
	amount, ok := strings.CutSuffix(s, "/s")
	if !ok && s != "" {
		return 0, fmt.Errorf("%q is no rate", s)
	}
	return ParseSize(amount)
}
