package clients

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/waysideos/wayside/test/harness"
)

// secureBroker is a broker with a listener for each way to log in, which
// judges requests by access rules, and what clients need for it.
type secureBroker struct {
	*broker
	dir   string            // ca.pem, till.pem (key and certificate), token, and what the broker reads
	addrs map[string]string // of its listeners by name
}

const secureProfile = `version: 1
site: clients
broker:
  listeners:
    - name: scram
      listen: %[1]s
      sasl: {mechanisms: [SCRAM-SHA-256, SCRAM-SHA-512], users: users}
    - name: tls
      listen: %[2]s
      tls: {cert: server.pem, key: server.pem}
      sasl: {mechanisms: [PLAIN, SCRAM-SHA-512], users: users}
    - name: mtls
      listen: %[3]s
      tls: {cert: server.pem, key: server.pem, client_ca: ca.pem, principal_rules: ["RULE:^CN=([^,]*).*$/$1/L"]}
    - name: oauth
      listen: %[4]s
      tls: {cert: server.pem, key: server.pem}
      sasl: {mechanisms: [OAUTHBEARER], oauth: {jwks: jwks.json, issuer: "https://login.example.com", audience: [kafka]}}
    - name: brief
      listen: %[5]s
      sasl: {mechanisms: [SCRAM-SHA-256], users: users, max_session: 2}
  security: {authorizer: true, super_users: ["User:admin"], trust_box: false}
`

func startSecure(t *testing.T) *secureBroker {
	t.Helper()
	s := &secureBroker{dir: t.TempDir(), addrs: map[string]string{}}
	var addrs []any
	for _, name := range []string{"scram", "tls", "mtls", "oauth", "brief"} {
		s.addrs[name] = harness.FreeAddr(t)
		addrs = append(addrs, s.addrs[name])
	}
	s.write(t, "site.yaml", fmt.Sprintf(secureProfile, addrs...))
	s.write(t, "users", "admin:admin secret\nann:ann's secret\n")
	s.certificates(t)
	s.token(t)
	s.broker = startBroker(t, "--site", filepath.Join(s.dir, "site.yaml"), "--secrets", s.dir)
	return s
}

func (s *secureBroker) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// certificates makes an authority and what it signed, and another authority.
func (s *secureBroker) certificates(t *testing.T) {
	t.Helper()
	now := time.Now()
	of := func(name string, ca bool) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: name},
			NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
			IsCA: ca, BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		}
	}
	sign := func(file string, cert, parent *x509.Certificate, by *ecdsa.PrivateKey) *ecdsa.PrivateKey {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if by == nil {
			by = key
		}
		der, err := x509.CreateCertificate(rand.Reader, cert, parent, key.Public(), by)
		if err != nil {
			t.Fatal(err)
		}
		pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
		if !cert.IsCA {
			text = append(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), text...)
		}
		s.write(t, file, string(text))
		return key
	}
	ca := of("Authority", true)
	key := sign("ca.pem", ca, ca, nil)
	sign("server.pem", of("server", false), ca, key)
	sign("till.pem", of("Till", false), ca, key)
	other := of("Other", true)
	sign("other-ca.pem", other, other, nil)
}

// token makes a signing key and a token for User:cloud.
func (s *secureBroker) token(t *testing.T) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := key.PublicKey.Bytes() // 4, x, y
	if err != nil {
		t.Fatal(err)
	}
	b64 := base64.RawURLEncoding.EncodeToString
	s.write(t, "jwks.json", fmt.Sprintf(`{"keys":[{"kty":"EC","crv":"P-256","kid":"k","alg":"ES256","x":%q,"y":%q}]}`, b64(point[1:33]), b64(point[33:])))
	claims, err := json.Marshal(map[string]any{
		"iss": "https://login.example.com", "aud": "kafka", "sub": "cloud", "scope": "kafka",
		"iat": time.Now().Add(-time.Minute).Unix(), "exp": time.Now().Add(time.Hour).Unix(),
	})
	if err != nil {
		t.Fatal(err)
	}
	signed := b64([]byte(`{"alg":"ES256","kid":"k"}`)) + "." + b64(claims)
	sum := sha256.Sum256([]byte(signed))
	r, sig, err := ecdsa.Sign(rand.Reader, key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	raw := append(r.FillBytes(make([]byte, 32)), sig.FillBytes(make([]byte, 32))...)
	s.write(t, "token", signed+"."+b64(raw))
}

// logins are how Java's clients log in, by name.
func (s *secureBroker) logins() map[string]map[string]string {
	scram := func(user, password string) string {
		return `org.apache.kafka.common.security.scram.ScramLoginModule required username="` + user + `" password="` + password + `";`
	}
	plain := `org.apache.kafka.common.security.plain.PlainLoginModule required username="ann" password="ann's secret";`
	trust := map[string]string{"ssl.truststore.type": "PEM", "ssl.truststore.location": filepath.Join(s.dir, "ca.pem")}
	with := func(listener string, tls bool, pairs ...string) map[string]string {
		conf := map[string]string{"bootstrap.servers": s.addrs[listener]}
		if tls {
			for k, v := range trust {
				conf[k] = v
			}
		}
		for i := 0; i < len(pairs); i += 2 {
			conf[pairs[i]] = pairs[i+1]
		}
		return conf
	}
	sasl := func(listener, protocol, mechanism, jaas string, more ...string) map[string]string {
		return with(listener, protocol == "SASL_SSL", append(more, "security.protocol", protocol, "sasl.mechanism", mechanism, "sasl.jaas.config", jaas)...)
	}
	return map[string]map[string]string{
		"admin":       sasl("scram", "SASL_PLAINTEXT", "SCRAM-SHA-512", scram("admin", "admin secret")),
		"scram":       sasl("scram", "SASL_PLAINTEXT", "SCRAM-SHA-256", scram("ann", "ann's secret")),
		"bad":         sasl("scram", "SASL_PLAINTEXT", "SCRAM-SHA-256", scram("ann", "wrong")),
		"made":        sasl("scram", "SASL_PLAINTEXT", "SCRAM-SHA-256", scram("made", "made secret")),
		"brief":       sasl("brief", "SASL_PLAINTEXT", "SCRAM-SHA-256", scram("ann", "ann's secret")),
		"tls-scram":   sasl("tls", "SASL_SSL", "SCRAM-SHA-512", scram("ann", "ann's secret")),
		"tls-plain":   sasl("tls", "SASL_SSL", "PLAIN", plain),
		"wrong-ca":    sasl("tls", "SASL_SSL", "PLAIN", plain, "ssl.truststore.location", filepath.Join(s.dir, "other-ca.pem")),
		"certificate": with("mtls", true, "security.protocol", "SSL", "ssl.keystore.type", "PEM", "ssl.keystore.location", filepath.Join(s.dir, "till.pem")),
		"token": sasl("oauth", "SASL_SSL", "OAUTHBEARER", "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;",
			"sasl.login.callback.handler.class", "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginCallbackHandler",
			"sasl.oauthbearer.token.endpoint.url", "file://"+filepath.Join(s.dir, "token")),
	}
}

// TestLibrdkafkaSecurity: the ways to log in.
func TestLibrdkafkaSecurity(t *testing.T) {
	need(t)
	s := startSecure(t)
	till := []string{"security.protocol", "SSL", "ssl.certificate.location", "till.pem", "ssl.key.location", "till.pem"}
	ann := []string{"sasl.username", "ann", "sasl.password", "ann's secret"}
	logins := map[string]map[string]string{}
	for name, pairs := range map[string][]string{
		"scram":       append([]string{"security.protocol", "SASL_PLAINTEXT", "sasl.mechanism", "SCRAM-SHA-256"}, ann...),
		"tls-scram":   append([]string{"security.protocol", "SASL_SSL", "sasl.mechanism", "SCRAM-SHA-512"}, ann...),
		"tls-plain":   append([]string{"security.protocol", "SASL_SSL", "sasl.mechanism", "PLAIN"}, ann...),
		"mtls":        till,
		"oauth":       {"security.protocol", "SASL_SSL", "sasl.mechanism", "OAUTHBEARER"},
		"scram-admin": {"security.protocol", "SASL_PLAINTEXT", "sasl.mechanism", "SCRAM-SHA-512", "sasl.username", "admin", "sasl.password", "admin secret"},
		"scram-bad":   {"security.protocol", "SASL_PLAINTEXT", "sasl.mechanism", "SCRAM-SHA-512", "sasl.username", "ann", "sasl.password", "wrong"},
	} {
		listener := name
		for l := range s.addrs {
			if strings.HasPrefix(name, l) {
				listener = l
			}
		}
		conf := map[string]string{"bootstrap.servers": s.addrs[listener]}
		for i := 0; i < len(pairs); i += 2 {
			conf[pairs[i]] = pairs[i+1]
			if strings.HasSuffix(pairs[i], ".location") {
				conf[pairs[i]] = filepath.Join(s.dir, pairs[i+1])
			}
		}
		if strings.HasSuffix(conf["security.protocol"], "SSL") {
			conf["ssl.ca.location"] = filepath.Join(s.dir, "ca.pem")
		}
		logins[name] = conf
	}
	text, err := json.Marshal(logins)
	if err != nil {
		t.Fatal(err)
	}
	s.write(t, "librdkafka.json", string(text))
	ran(t, "librdkafka-security", runCases(t, s.broker, python(t, "librdkafka_secure.py", s.dir)))
}

// TestJavaSecurity: every way to log in, access rules, quotas.
func TestJavaSecurity(t *testing.T) {
	need(t)
	s := startSecure(t)
	for name, conf := range s.logins() {
		var text strings.Builder
		for k, v := range conf {
			fmt.Fprintf(&text, "%s=%s\n", k, v)
		}
		s.write(t, name+".properties", text.String())
	}
	cmd := java(t, "clients.Main", append([]string{s.dir}, picked(javaCases(t, "security/"))...)...)
	cmd.Env = append(os.Environ(), "JAVA_TOOL_OPTIONS=-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls=file://"+filepath.Join(s.dir, "token"))
	ran(t, "java-security", runCases(t, s.broker, cmd))
}
