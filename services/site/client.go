package site

import (
	"net/url"
	"slices"
)

// ClientTLS is how a link encrypts. A file is an absolute path, or the name
// of one in the secrets directory; it is read again for every connection.
type ClientTLS struct {
	CA         string `yaml:"ca,omitempty"`          // file of the authorities of brokers' certificates, PEM; default: those of the system
	Cert       string `yaml:"cert,omitempty"`        // file of the link's own certificate and chain, PEM
	Key        string `yaml:"key,omitempty"`         // file of its key, PEM
	ServerName string `yaml:"server_name,omitempty"` // expected in brokers' certificates; default: the host that is dialled
}

// ClientSASL is how a link logs in.
type ClientSASL struct {
	Mechanism string       `yaml:"mechanism"`          // PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER
	User      string       `yaml:"user,omitempty"`     // for PLAIN and SCRAM
	Password  string       `yaml:"password,omitempty"` // file of the password
	Token     string       `yaml:"token,omitempty"`    // file of a token, for OAUTHBEARER
	OAuth     *ClientOAuth `yaml:"oauth,omitempty"`    // instead of Token: who gives tokens
	// Extensions are sent with a token (RFC 7628), such as logicalCluster.
	Extensions map[string]string `yaml:"extensions,omitempty"`
}

// ClientOAuth is an issuer that gives tokens for a client's id and secret.
type ClientOAuth struct {
	TokenURL     string `yaml:"token_url"`
	ClientID     string `yaml:"client_id"`
	ClientSecret string `yaml:"client_secret"` // file of the secret
	Scope        string `yaml:"scope,omitempty"`
}

func (c checker) clientTLS(path string, t *ClientTLS) {
	c.secret(path+".ca", t.CA)
	c.secret(path+".cert", t.Cert)
	c.secret(path+".key", t.Key)
	c.text(path+".server_name", t.ServerName, host)
	if (t.Cert == "") != (t.Key == "") {
		c.key(path, "", "cert and key need each other")
	}
}

func (c checker) clientSASL(path string, s *ClientSASL, encrypted bool) {
	c.text(path+".mechanism", s.Mechanism, oneOf(saslMechanisms...))
	c.secret(path+".password", s.Password)
	c.secret(path+".token", s.Token)
	if !slices.Contains(saslMechanisms, s.Mechanism) {
		return
	}
	if !encrypted && (s.Mechanism == "PLAIN" || s.Mechanism == oauthBearer) {
		c.value(path+".mechanism", "", "%s sends a secret as it is: give the link tls, or use SCRAM-SHA-512", s.Mechanism)
	}
	if s.Mechanism == oauthBearer {
		c.bearer(path, s)
		return
	}
	if s.User == "" || s.Password == "" {
		c.key(path, "", "%s needs user, and password: the name of the file that holds it", s.Mechanism)
	}
	if s.Token != "" || s.OAuth != nil || len(s.Extensions) > 0 {
		c.key(path, "", "token, oauth and extensions are for OAUTHBEARER")
	}
}

func (c checker) bearer(path string, s *ClientSASL) {
	switch {
	case (s.Token == "") == (s.OAuth == nil):
		c.key(path, "", "OAUTHBEARER needs token, a file, or oauth, an issuer, and not both")
	case s.User != "" || s.Password != "":
		c.key(path, "", "user and password are for PLAIN and SCRAM")
	case s.OAuth != nil:
		c.text(path+".oauth.token_url", s.OAuth.TokenURL, webAddress)
		c.secret(path+".oauth.client_secret", s.OAuth.ClientSecret)
	}
}

func webAddress(s string) fault {
	u, err := url.Parse(s)
	if err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" && u.User == nil {
		return fault{}
	}
	return faultf("%q is no address such as https://login.example.com/token", shorten(s))
}
