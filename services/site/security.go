package site

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// Listener is a further address for Kafka clients, with security of its own.
type Listener struct {
	Name       string `yaml:"name"`                 // for people and logs
	Listen     string `yaml:"listen"`               // host:port
	Advertised string `yaml:"advertised,omitempty"` // host:port; default: the address a client dialled
	TLS        *TLS   `yaml:"tls,omitempty"`        // default: plain text
	SASL       *SASL  `yaml:"sasl,omitempty"`       // default: clients need not log in
}

// TLS is how a listener encrypts. A file is an absolute path, or the name of
// one in the secrets directory; it is read again when it changes.
type TLS struct {
	Cert       string   `yaml:"cert"`                  // file of certificate and chain, PEM
	Key        string   `yaml:"key"`                   // file of its key, PEM
	ClientCA   string   `yaml:"client_ca,omitempty"`   // file of the authorities of clients' certificates, PEM
	ClientAuth string   `yaml:"client_auth,omitempty"` // none, request or require; default require with client_ca, else none
	Principals []string `yaml:"principal_rules,omitempty"`
}

// SASL is how clients of a listener log in.
type SASL struct {
	Mechanisms []string `yaml:"mechanisms"`            // of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER
	Users      string   `yaml:"users,omitempty"`       // file of users, beside those of the broker's state
	OAuth      *OAuth   `yaml:"oauth,omitempty"`       // needed for OAUTHBEARER
	MaxSession int      `yaml:"max_session,omitempty"` // seconds after which to log in again; 0: never, or when a token expires
}

// OAuth says which tokens are taken.
type OAuth struct {
	JWKS     string   `yaml:"jwks"`               // file of the issuer's keys (RFC 7517)
	Issuer   string   `yaml:"issuer,omitempty"`   // claim iss; default: any
	Audience []string `yaml:"audience,omitempty"` // one of these in claim aud; default: any
	Claim    string   `yaml:"claim,omitempty"`    // that names the user; default "sub"
}

// Security says what the broker's clients may do.
type Security struct {
	Authorizer bool     `yaml:"authorizer,omitempty"`      // judge by access rules; default false
	SuperUsers []string `yaml:"super_users,omitempty"`     // principals that may do everything, such as User:admin
	AllowNoACL bool     `yaml:"allow_if_no_acl,omitempty"` // what no rule speaks of is allowed; default false
	// TrustBox takes connections from the box itself to broker.listen for its
	// own services, which may do everything; default true.
	TrustBox *bool `yaml:"trust_box,omitempty"`
}

const (
	defaultClaim      = "sub"
	clientAuthNone    = "none"
	clientAuthRequire = "require"
)

func (l *Listener) fill() {
	if l.TLS != nil && l.TLS.ClientAuth == "" {
		l.TLS.ClientAuth = clientAuthNone
		if l.TLS.ClientCA != "" {
			l.TLS.ClientAuth = clientAuthRequire
		}
	}
	if l.SASL != nil && l.SASL.OAuth != nil {
		orString(&l.SASL.OAuth.Claim, defaultClaim)
	}
}

func (s *Security) fill() {
	orBool(&s.TrustBox, true)
}

// saslMechanisms are those that the broker offers; a test in cmd/waysided
// holds the list to the broker's own.
var saslMechanisms = []string{"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", oauthBearer}

// SASLMechanisms are the mechanisms a listener may offer.
func SASLMechanisms() []string { return slices.Clone(saslMechanisms) }

const oauthBearer = "OAUTHBEARER"

func (c checker) listeners(path string, b *Broker) {
	at := func(i int) string { return fmt.Sprintf("%s.listeners[%d]", path, i) }
	for i := range b.Listeners {
		c.listener(at(i), &b.Listeners[i])
	}
	c.unique(len(b.Listeners), func(i int) (string, string) { return b.Listeners[i].Name, at(i) + ".name" })
	c.unique(len(b.Listeners), func(i int) (string, string) { return b.Listeners[i].Listen, at(i) + ".listen" })
	listen := b.Listen
	if listen == "" {
		listen = DefaultBrokerListen
	}
	for i, l := range b.Listeners {
		if l.Listen == listen {
			c.value(at(i)+".listen", "", "%s is broker.listen", l.Listen)
		}
	}
	c.texts(path+".security.super_users", b.Security.SuperUsers, principal)
}

func (c checker) listener(path string, l *Listener) {
	c.text(path+".name", l.Name, siteID)
	c.text(path+".listen", l.Listen, listenAddress)
	c.text(path+".advertised", l.Advertised, dialAddress("9093"))
	if t := l.TLS; t != nil {
		c.tls(path+".tls", t)
	}
	if s := l.SASL; s != nil {
		c.sasl(path+".sasl", s, l.TLS != nil)
	}
}

func (c checker) tls(path string, t *TLS) {
	c.secret(path+".cert", t.Cert)
	c.secret(path+".key", t.Key)
	c.secret(path+".client_ca", t.ClientCA)
	c.text(path+".client_auth", t.ClientAuth, oneOf(clientAuthNone, "request", clientAuthRequire))
	if t.ClientCA == "" && (t.ClientAuth == "request" || t.ClientAuth == clientAuthRequire) {
		c.value(path+".client_auth", "", "%s needs client_ca: whose certificates to believe", t.ClientAuth)
	}
	c.texts(path+".principal_rules", t.Principals, principalRule)
}

func (c checker) sasl(path string, s *SASL, encrypted bool) {
	c.texts(path+".mechanisms", s.Mechanisms, oneOf(saslMechanisms...))
	c.secret(path+".users", s.Users)
	if s.MaxSession < 0 || s.MaxSession > 1<<31-1 {
		c.value(path+".max_session", "", "want seconds, 0 for no limit, got %d", s.MaxSession)
	}
	for i, m := range s.Mechanisms {
		if !encrypted && (m == "PLAIN" || m == oauthBearer) {
			c.value(fmt.Sprintf("%s.mechanisms[%d]", path, i), "", "%s sends a secret as it is: give the listener tls, or use SCRAM-SHA-512", m)
		}
	}
	oauth := slices.Contains(s.Mechanisms, oauthBearer)
	switch o := s.OAuth; {
	case o == nil && oauth:
		c.key(path+".mechanisms", "", "OAUTHBEARER needs oauth: keys to verify tokens with")
	case o == nil:
	case !oauth:
		c.key(path+".oauth", "", "is for mechanism OAUTHBEARER, which is not among mechanisms")
	default:
		c.secret(path+".oauth.jwks", o.JWKS)
		c.texts(path+".oauth.audience", o.Audience, func(string) fault { return fault{} })
	}
}

// secret checks the name of a file.
func (c checker) secret(path, value string) {
	c.text(path, value, secretFile)
	if value != "" && !strings.HasPrefix(value, "/") {
		c.secrets[value] = true
	}
}

// secretFile is an absolute path, or a name without folders.
func secretFile(s string) fault {
	switch {
	case strings.HasPrefix(s, "/") && path.Clean(s) == s && s != "/":
		return fault{}
	case strings.HasPrefix(s, "-----"):
		return faultf("want the name of a file, not what is in it: a profile is no place for secrets")
	case strings.Contains(s, "/"), s == ".", s == "..":
		return faultf("%q: want an absolute path, or the name of a file in the secrets directory", shorten(s))
	}
	return fault{}
}

func principal(s string) fault {
	name, ok := strings.CutPrefix(s, "User:")
	switch {
	case ok && name != "" && name != "*":
		return fault{}
	case !strings.Contains(s, ":"):
		return fault{"want a principal, such as User:admin", "User:" + s}
	}
	return faultf("%q is no principal; want one such as User:admin", shorten(s))
}

// principalRule looks at a rule's shape; its pattern is the broker's to judge.
func principalRule(s string) fault {
	if s == "DEFAULT" {
		return fault{}
	}
	rest, ok := strings.CutPrefix(s, "RULE:")
	slashes := strings.Count(strings.ReplaceAll(rest, `\/`, ""), "/")
	end := rest[strings.LastIndex(rest, "/")+1:]
	if ok && slashes == 2 && (end == "" || end == "L" || end == "U") {
		return fault{}
	}
	return fault{"want DEFAULT or RULE:pattern/replacement/ with L or U behind it", nearest(s, []string{"DEFAULT"})}
}
