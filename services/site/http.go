package site

import (
	"fmt"
	"strings"
)

// HTTP is a web server on the box: the REST interface that Kafka users know,
// and paths for plain posts and webhooks.
type HTTP struct {
	Name   string     `yaml:"name"`
	Listen string     `yaml:"listen,omitempty"` // host:port; default ":8082"
	TLS    *ServerTLS `yaml:"tls,omitempty"`    // default: plain text
	// Clients that may call; without any everybody may.
	Clients []HTTPClient `yaml:"clients,omitempty"`
	// Topics that the REST interface reaches, by name or with a trailing *;
	// default: none, only Posts work.
	Topics []string `yaml:"topics,omitempty"`
	// Rate of records a second that one client may send, in the long run;
	// default 1000. Twice that may come at once.
	Rate    int        `yaml:"rate,omitempty"`
	MaxBody string     `yaml:"max_body,omitempty"` // of one request; default 4MB
	Posts   []HTTPPost `yaml:"posts,omitempty"`
	Records Records    `yaml:"records,omitempty"`
}

// HTTPClient is who may call, by one of Password, Token and Certificate.
type HTTPClient struct {
	Name        string   `yaml:"name"`
	Password    string   `yaml:"password,omitempty"`    // file; HTTP Basic
	Token       string   `yaml:"token,omitempty"`       // file; Authorization: Bearer
	Certificate string   `yaml:"certificate,omitempty"` // common name of its certificate; needs tls.client_ca
	Topics      []string `yaml:"topics,omitempty"`      // as HTTP.Topics; default: those
}

// HTTPPost is a path whose posts become records.
type HTTPPost struct {
	Path  string `yaml:"path"`            // such as /orders; with a trailing /* all below it
	Topic string `yaml:"topic,omitempty"` // template; default: that of records
	Key   string `yaml:"key,omitempty"`   // template; default: that of records
	Lines bool   `yaml:"lines,omitempty"` // every line of the body is a record; default: all of it is one
	JSON  bool   `yaml:"json,omitempty"`  // refuse what is not JSON
	// Webhook checks a signature instead of asking who calls.
	Webhook *Webhook `yaml:"webhook,omitempty"`
}

// Webhook is a signature of the body, as GitHub, Shopify and their like send it.
type Webhook struct {
	Secret    string `yaml:"secret"`              // file
	Header    string `yaml:"header,omitempty"`    // default X-Hub-Signature-256
	Algorithm string `yaml:"algorithm,omitempty"` // of HMAC: sha256, sha512 or sha1; default sha256
	Encoding  string `yaml:"encoding,omitempty"`  // hex or base64; default hex
	Prefix    string `yaml:"prefix,omitempty"`    // before the signature; default none, "sha256=" for the default header
}

const (
	DefaultHTTPListen = ":8082"

	defaultHTTPRate = 1000
	defaultHTTPBody = "4MB"
	githubHeader    = "X-Hub-Signature-256"
)

// httpWords are those of templates of an HTTPPost.
var httpWords = []string{"path", "client"}

// Common implements Instance.
func (h *HTTP) Common() Common {
	return Common{Name: h.Name, Records: &h.Records, Words: httpWords}
}

func (h *HTTP) fill() {
	orString(&h.Listen, DefaultHTTPListen)
	orString(&h.MaxBody, defaultHTTPBody)
	orInt(&h.Rate, defaultHTTPRate)
	h.Records.fill(h.Name, "{path}")
	if h.TLS != nil {
		h.TLS.fill()
	}
	for i := range h.Posts {
		p := &h.Posts[i]
		orString(&p.Topic, h.Records.Topic)
		orString(&p.Key, h.Records.Key)
		if w := p.Webhook; w != nil {
			if w.Header == "" {
				orString(&w.Prefix, "sha256=")
			}
			orString(&w.Header, githubHeader)
			orString(&w.Algorithm, "sha256")
			orString(&w.Encoding, "hex")
		}
	}
}

func (h *HTTP) check(c checker, path string) {
	c.text(path+".listen", h.Listen, listenAddress)
	if h.TLS != nil {
		c.serverTLS(path+".tls", h.TLS)
	}
	c.texts(path+".topics", h.Topics, topicMatch)
	if _, given := c.keys[path+".rate"]; given && (h.Rate < 1 || h.Rate > 1e6) {
		c.value(path+".rate", "", "want 1 to 1000000 records a second, got %d", h.Rate)
	}
	c.text(path+".max_body", h.MaxBody, bodySize)
	client := func(i int) string { return fmt.Sprintf("%s.clients[%d]", path, i) }
	for i := range h.Clients {
		h.checkClient(c, client(i), &h.Clients[i])
	}
	c.unique(len(h.Clients), func(i int) (string, string) { return h.Clients[i].Name, client(i) + ".name" })
	post := func(i int) string { return fmt.Sprintf("%s.posts[%d]", path, i) }
	for i := range h.Posts {
		h.Posts[i].check(c, post(i))
	}
	c.unique(len(h.Posts), func(i int) (string, string) { return h.Posts[i].Path, post(i) + ".path" })
	if len(h.Topics) == 0 && len(h.Posts) == 0 {
		c.key(path, "", "takes nothing: give it topics, or posts")
	}
}

func (h *HTTP) checkClient(c checker, path string, l *HTTPClient) {
	ways := 0
	for _, s := range []string{l.Password, l.Token, l.Certificate} {
		if s != "" {
			ways++
		}
	}
	if ways != 1 {
		c.key(path, "", "want one of password, token and certificate: how the client says who it is")
	}
	c.text(path+".name", l.Name, func(s string) fault {
		if strings.ContainsAny(s, ":\n") {
			return faultf("%q has a colon or a line break, which no user of HTTP Basic can have", shorten(s))
		}
		return fault{}
	})
	c.secret(path+".password", l.Password)
	c.secret(path+".token", l.Token)
	c.texts(path+".topics", l.Topics, topicMatch)
	if l.Certificate != "" && (h.TLS == nil || h.TLS.ClientCA == "") {
		c.value(path+".certificate", "", "needs tls.client_ca: whose certificates to believe")
	}
	if h.TLS == nil && (l.Password != "" || l.Token != "") && !loopback(h.Listen) {
		c.key(path, "", "sends its secret as it is: give the connector tls, or have it listen on 127.0.0.1")
	}
}

func (p *HTTPPost) check(c checker, path string) {
	c.text(path+".path", p.Path, func(s string) fault {
		plain := strings.TrimSuffix(s, "/*")
		switch {
		case !strings.HasPrefix(s, "/") || strings.ContainsAny(plain, "*?#{} \n") || strings.Contains(s, "//"):
			return faultf("%q is no path, such as /orders or /machines/*", shorten(s))
		case reservedPath(s):
			return faultf("%q belongs to the REST interface", shorten(s))
		}
		return fault{}
	})
	words := append(commonWords[:len(commonWords):len(commonWords)], httpWords...)
	c.text(path+".topic", p.Topic, topicTemplateOf(words))
	c.text(path+".key", p.Key, templateOf(words))
	if w := p.Webhook; w != nil {
		c.secret(path+".webhook.secret", w.Secret)
		c.text(path+".webhook.header", w.Header, func(s string) fault {
			if bad := notIn(s, lower+upper+digits+"-_"); bad != "" {
				return faultf("%q has %q, which no header's name has", shorten(s), bad)
			}
			return fault{}
		})
		c.text(path+".webhook.algorithm", w.Algorithm, oneOf("sha256", "sha512", "sha1"))
		c.text(path+".webhook.encoding", w.Encoding, oneOf("hex", "base64"))
	}
}

// reservedPath are those of the REST interface.
func reservedPath(s string) bool {
	first, _, _ := strings.Cut(strings.TrimPrefix(s, "/"), "/")
	switch first {
	case "", "*", "topics", "consumers", "v3", "kafka", "brokers":
		return true
	}
	return false
}

func loopback(listen string) bool {
	return strings.HasPrefix(listen, "127.") || strings.HasPrefix(listen, "[::1]")
}

func bodySize(s string) fault {
	if n, err := ParseSize(s); err != nil || n < 1e3 || n > 32e6 {
		return faultf("want a size from 1kB to 32MB, got %q", shorten(s))
	}
	return fault{}
}
