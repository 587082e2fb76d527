package auth

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"regexp"
	"strings"
)

// rule turns a certificate's subject into a name, as KIP-371 has it:
// RULE:pattern/replacement/ with L or U behind it for the case of letters, or
// DEFAULT for the subject as it is. The pattern must match all of it.
type rule struct {
	pattern     *regexp.Regexp // nil: DEFAULT
	replacement string
	change      func(string) string
}

var ruleSyntax = regexp.MustCompile(`^RULE:((?:\\.|[^\\/])*)/((?:\\.|[^\\/])*)/([LU]?)$`)

var changes = map[string]func(string) string{"L": strings.ToLower, "U": strings.ToUpper, "": func(s string) string { return s }}

func parseRules(texts []string) ([]rule, error) {
	if len(texts) == 0 {
		return []rule{{}}, nil
	}
	var rules []rule
	for _, text := range texts {
		r, err := parseRule(strings.TrimSpace(text))
		if err != nil {
			return nil, err
		}
		rules = append(rules, r)
	}
	return rules, nil
}

// javaGroup is a reference to a group, as the rules write it.
var javaGroup = regexp.MustCompile(`\$(\d)`)

func parseRule(text string) (rule, error) {
	if text == "DEFAULT" {
		return rule{}, nil
	}
	m := ruleSyntax.FindStringSubmatch(text)
	if m == nil {
		return rule{}, fmt.Errorf("principal rule %q: want DEFAULT or RULE:pattern/replacement/ with L or U behind it", text)
	}
	unescape := strings.NewReplacer(`\/`, `/`)
	p, err := regexp.Compile(`^(?:` + unescape.Replace(m[1]) + `)$`)
	if err != nil {
		return rule{}, fmt.Errorf("principal rule %q: %v", text, err)
	}
	return rule{p, javaGroup.ReplaceAllString(unescape.Replace(m[2]), "$${$1}"), changes[m[3]]}, nil
}

// CheckRule says what is wrong with a rule.
func CheckRule(text string) error {
	_, err := parseRule(text)
	return err
}

// Principal is who a certificate names: the first rule that matches its
// subject says so.
func (t *TLS) Principal(cert *x509.Certificate) (string, error) {
	subject, err := subjectOf(cert)
	if err != nil {
		return "", err
	}
	for _, r := range t.rules {
		switch {
		case r.pattern == nil:
			return UserPrefix + subject, nil
		case r.pattern.MatchString(subject):
			return UserPrefix + r.change(r.pattern.ReplaceAllString(subject, r.replacement)), nil
		}
	}
	return "", fmt.Errorf("no principal rule matches certificate %q", subject)
}

// attributes have a name in RFC 2253; others are written by number.
var attributes = map[string]string{
	"2.5.4.3": "CN", "2.5.4.6": "C", "2.5.4.7": "L", "2.5.4.8": "ST", "2.5.4.9": "STREET",
	"2.5.4.10": "O", "2.5.4.11": "OU", "0.9.2342.19200300.100.1.1": "UID", "0.9.2342.19200300.100.1.25": "DC",
}

// subjectOf writes a subject as Java does, whose text the rules are made for
// (RFC 2253): last part first, in the order of the certificate.
func subjectOf(cert *x509.Certificate) (string, error) {
	var rdns pkix.RDNSequence
	if rest, err := asn1.Unmarshal(cert.RawSubject, &rdns); err != nil || len(rest) > 0 {
		return "", fmt.Errorf("a certificate's subject cannot be read: %v", err)
	}
	var parts []string
	for i := len(rdns) - 1; i >= 0; i-- {
		var values []string
		for _, v := range rdns[i] {
			values = append(values, attribute(v))
		}
		parts = append(parts, strings.Join(values, "+"))
	}
	return strings.Join(parts, ","), nil
}

func attribute(v pkix.AttributeTypeAndValue) string {
	name, known := attributes[v.Type.String()]
	text, isText := v.Value.(string)
	if !known || !isText {
		der, err := asn1.Marshal(v.Value)
		if err != nil {
			return v.Type.String() + "=?"
		}
		return fmt.Sprintf("%s=#%x", v.Type, der)
	}
	return name + "=" + escaped(text)
}

func escaped(s string) string {
	var b strings.Builder
	for i, r := range s {
		edge := r == ' ' && (i == 0 || i == len(s)-1) || r == '#' && i == 0
		if edge || strings.ContainsRune(`,+"\<>;`, r) {
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}
