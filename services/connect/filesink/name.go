package filesink

import (
	"fmt"
	"path"
	"regexp"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/site"
)

// offsetDigits has names sort as offsets do.
const offsetDigits = 12

// namer names files by their first record.
type namer struct {
	template, ending string
	site, connector  string
}

func (n namer) name(r *kgo.Record) string {
	at := r.Timestamp.UTC()
	out, _ := site.ExpandTemplate(n.template, func(word string) (string, bool) {
		switch word {
		case "site":
			return n.site, true
		case "connector":
			return n.connector, true
		case "topic":
			return r.Topic, true
		case "partition":
			return strconv.Itoa(int(r.Partition)), true
		case "offset":
			return fmt.Sprintf("%0*d", offsetDigits, r.Offset), true
		case "date":
			return at.Format("2006-01-02"), true
		case "time":
			return at.Format("150405"), true
		}
		return "", false
	})
	return out + n.ending
}

// again is a name for a file whose own is taken: of a topic that was deleted
// and made anew.
func (n namer) again(name string, try int) string {
	return fmt.Sprintf("%s.%d%s", strings.TrimSuffix(name, n.ending), try, n.ending)
}

// matcher knows the names that files of this connector have, and no others.
func (n namer) matcher() *regexp.Regexp {
	words := map[string]string{
		"topic": `[a-zA-Z0-9._-]+`, "partition": `[0-9]+`, "offset": `[0-9]{12,}`, "date": `[0-9]{4,}-[0-9]{2}-[0-9]{2}`, "time": `[0-9]{6}`,
	}
	// Of what stands between words, quoted, no brace is left.
	quoted := strings.NewReplacer(`\{`, "{", `\}`, "}").Replace(regexp.QuoteMeta(n.template))
	pattern, _ := site.ExpandTemplate(quoted, func(word string) (string, bool) {
		switch word {
		case "site":
			return regexp.QuoteMeta(n.site), true
		case "connector":
			return regexp.QuoteMeta(n.connector), true
		}
		return words[word], true
	})
	return regexp.MustCompile("^" + pattern + `(\.[0-9]+)?` + regexp.QuoteMeta(n.ending) + "$")
}

// depth is how many folders a name has.
func (n namer) depth() int { return strings.Count(path.Clean(n.template), "/") }
