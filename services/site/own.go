package site

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// Own is what is one box's own of a profile that many boxes share; a claim
// brings it (services/claim).
type Own struct {
	Site      string            // takes the place of the profile's; "" leaves it
	Variables map[string]string // take the place of those that the profile declares
}

// SecretFiles are the names, sorted, of the files in the secrets directory that
// a profile from Parse names.
func SecretFiles(p *Profile) []string {
	r := newReport("")
	checkProfile(p, r)
	return slices.Sorted(maps.Keys(r.secrets))
}

// ownWords is what the words in braces stand for that any text of a profile
// may hold: {site} and {var:NAME}. Others are somebody else's, and stay.
type ownWords struct {
	site      string
	variables map[string]string
	left      int // bytes that text may still grow by
}

// maxGrowth bounds what all words together add to a profile, in bytes: a short
// one may stand for a long text, many times.
const maxGrowth = 256 << 10

// readOwn looks ahead: what a word stands for may be said further down.
func readOwn(root *ast.MappingNode, own Own) *ownWords {
	w := &ownWords{site: own.Site, variables: map[string]string{}, left: maxGrowth}
	for _, kv := range root.Values {
		switch key := kv.Key.GetToken().Value; {
		case key == "site" && w.site == "":
			w.site = plainText(kv.Value)
		case key == variables:
			v, ok := kv.Value.(*ast.MappingNode)
			if !ok {
				continue
			}
			for _, kv := range v.Values {
				name, value := kv.Key.GetToken().Value, plainText(kv.Value)
				if brought, ok := own.Variables[name]; ok {
					value = brought
				}
				w.variables[name] = value
			}
		}
	}
	return w
}

// plainText is a scalar as the decoder reads it into text.
func plainText(node ast.Node) string {
	switch n := node.(type) {
	case *ast.StringNode:
		return n.Value
	case *ast.LiteralNode:
		return n.Value.Value
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		return n.GetToken().Value
	}
	return ""
}

const variables = "variables" // the field

// expand puts what is the box's own in the place of its words.
func (d decoder) expand(path, s string) string {
	if path == "site" || strings.HasPrefix(path, variables+".") {
		return s
	}
	var out strings.Builder
	for {
		at := strings.IndexByte(s, '{')
		if at < 0 {
			out.WriteString(s)
			return out.String()
		}
		out.WriteString(s[:at])
		s = s[at:]
		if !strings.HasPrefix(s, "{site}") && !strings.HasPrefix(s, "{var:") {
			out.WriteByte('{')
			s = s[1:]
			continue
		}
		word, _, closed := strings.Cut(s, "}")
		if !closed {
			out.WriteString(s)
			return out.String()
		}
		name := strings.TrimPrefix(word, "{var:")
		value, known := d.own.variables[name]
		switch {
		case word == "{site":
			value = d.own.site
		case !known:
			names := slices.Collect(maps.Keys(d.own.variables))
			d.value(path, nearest(name, names), "{var:%s} is not declared; in variables there is: %s", shorten(name), cmp.Or(sortedList(names), "nothing"))
			return ""
		}
		if d.own.left -= len(value); d.own.left < 0 {
			d.value(path, "", "the words in braces make the profile too large: they add more than %d bytes", maxGrowth)
			return ""
		}
		out.WriteString(value)
		s = s[len(word)+1:]
	}
}

// take has a decoded profile say what the box brought.
func (o Own) take(p *Profile) {
	if o.Site != "" {
		p.Site = o.Site
	}
	for name := range p.Variables {
		if value, ok := o.Variables[name]; ok {
			p.Variables[name] = value
		}
	}
}

func (c checker) variables(path string, all map[string]string) {
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if !VariableName(name) {
			c.key(join(path, name), "", "want a name of lower-case letters, digits, '-' and '_', at most %d", maxVariableName)
			continue
		}
		c.text(join(path, name), all[name], variableValue)
	}
}

const (
	maxVariableName = 63
	maxVariable     = 500 // bytes
)

// VariableName says whether a variable may be called so.
func VariableName(s string) bool {
	return s != "" && len(s) <= maxVariableName && notIn(s, lower+digits+"-_") == ""
}

// VariableValue says what is wrong with a variable's value; "" is nothing.
func VariableValue(s string) string { return variableValue(s).reason }

// variableValue may hold no braces, or a value would be read twice.
func variableValue(s string) fault {
	switch {
	case len(s) > maxVariable:
		return faultf("has %d bytes, the most is %d", len(s), maxVariable)
	case strings.ContainsAny(s, "{}"):
		return faultf("holds a brace: a variable stands for plain text")
	}
	if _, reason := badCharacter(s); reason != "" || strings.Contains(s, "\n") {
		return faultf("holds a control character or a line break")
	}
	return fault{}
}

// SiteName says what is wrong with a box's name; "" is nothing.
func SiteName(s string) string {
	if s == "" {
		return "is empty"
	}
	return siteID(s).reason
}
