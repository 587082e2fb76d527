package broker_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/oauth"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/waysideos/wayside/services/broker"
	"github.com/waysideos/wayside/services/broker/auth"
	"github.com/waysideos/wayside/services/site"
	"github.com/waysideos/wayside/services/vfs"
)

// secrets is a folder of files as a site has them.
type secrets struct {
	dir   string
	ca    *x509.Certificate
	caKey *ecdsa.PrivateKey
	token *ecdsa.PrivateKey
}

func newSecrets(t *testing.T) *secrets {
	t.Helper()
	s := &secrets{dir: t.TempDir()}
	s.ca, s.caKey = sign(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "ca"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, nil, nil)
	s.put(t, "ca.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.ca.Raw}))
	s.certificate(t, "server", "broker")
	s.certificate(t, "client", "Till-7")
	s.put(t, "users", []byte("ann:ann's password\n"))
	var err error
	s.token, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: s.token.Public(), KeyID: "k", Algorithm: "ES256"}}})
	must(t, err)
	s.put(t, "jwks.json", set)
	return s
}

func (s *secrets) file(name string) string { return filepath.Join(s.dir, name) }

func (s *secrets) put(t *testing.T, name string, data []byte) {
	t.Helper()
	must(t, os.WriteFile(s.file(name)+".new", data, 0o600))
	must(t, os.Rename(s.file(name)+".new", s.file(name)))
}

// certificate writes name.pem and name.key.
func (s *secrets) certificate(t *testing.T, name, subject string) {
	t.Helper()
	cert, key := sign(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: subject, Organization: []string{"Shop"}}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, s.ca, s.caKey)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	s.put(t, name+".key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	s.put(t, name+".pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}))
}

func sign(t *testing.T, c, parent *x509.Certificate, parentKey *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	c.SerialNumber, err = rand.Int(rand.Reader, big.NewInt(1<<62))
	must(t, err)
	c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	if parent == nil {
		parent, parentKey = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), parentKey)
	must(t, err)
	cert, err := x509.ParseCertificate(der)
	must(t, err)
	return cert, key
}

// jwt is a token of the issuer.
func (s *secrets) jwt(t *testing.T, user string, life time.Duration) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: s.token}, (&jose.SignerOptions{}).WithHeader("kid", "k"))
	must(t, err)
	now := time.Now()
	text, err := jwt.Signed(signer).Claims(jwt.Claims{
		Subject: user, Issuer: "https://issuer", Audience: jwt.Audience{"kafka"},
		IssuedAt: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(now.Add(life)),
	}).Serialize()
	must(t, err)
	return text
}

// tls is a client's configuration; with a name, it shows that certificate.
func (s *secrets) tls(t *testing.T, name string) *tls.Config {
	t.Helper()
	c := &tls.Config{RootCAs: x509.NewCertPool()}
	c.RootCAs.AddCert(s.ca)
	if name != "" {
		cert, err := tls.LoadX509KeyPair(s.file(name+".pem"), s.file(name+".key"))
		must(t, err)
		c.Certificates = []tls.Certificate{cert}
	}
	return c
}

// secured runs a broker with an authorizer that has one super user,
// User:admin, and with listeners beside the plain one. It returns their
// addresses in order.
func secured(t *testing.T, s *secrets, ls ...site.Listener) (b *running, addrs []string) {
	t.Helper()
	b = start(t, vfs.NewCrashable(1), func(c *broker.Config) {
		c.Access = &auth.Policy{SuperUsers: []string{"User:admin", auth.Box}}
		c.Listeners[0] = broker.TrustBox(c.Listeners[0])
		for _, l := range ls {
			l.Listen = "127.0.0.1:0"
			ln, err := broker.Listen(l, s.dir, c.Log)
			must(t, err)
			c.Listeners = append(c.Listeners, ln)
			addrs = append(addrs, ln.Addr().String())
		}
	})
	return b, addrs
}

var tlsOnly = &site.TLS{Cert: "server.pem", Key: "server.key"}

func passwords() site.Listener {
	return site.Listener{Name: "passwords", TLS: tlsOnly, SASL: &site.SASL{
		Mechanisms: []string{"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"}, Users: "users",
		OAuth: &site.OAuth{JWKS: "jwks.json", Issuer: "https://issuer", Audience: []string{"kafka"}, Claim: "sub"},
	}}
}

// quickly gives up on what is refused.
func quickly(addr string, opts ...kgo.Opt) []kgo.Opt {
	return append([]kgo.Opt{kgo.SeedBrokers(addr), kgo.RetryTimeout(2 * time.Second), kgo.RequestRetries(1), kgo.UnknownTopicRetries(1)}, opts...)
}

func setScram(t *testing.T, b *running, user, password string, m kadm.ScramMechanism) {
	t.Helper()
	res, err := kadm.NewClient(client(t, b)).AlterUserSCRAMs(within(t), nil, []kadm.UpsertSCRAM{{User: user, Mechanism: m, Iterations: 4096, Password: password}})
	must(t, err)
	must(t, res.Error())
}

func allow(t *testing.T, b *running, build func(*kadm.ACLBuilder) *kadm.ACLBuilder) {
	t.Helper()
	res, err := kadm.NewClient(client(t, b)).CreateACLs(within(t), build(kadm.NewACLs()))
	must(t, err)
	for _, r := range res {
		must(t, r.Err)
	}
}

// TestLogin logs in by every mechanism, with right and with wrong secrets.
func TestLogin(t *testing.T) {
	s := newSecrets(t)
	b, addrs := secured(t, s, passwords())
	setScram(t, b, "bob", "bob's password", kadm.ScramSha256)
	setScram(t, b, "eve", "eve's password", kadm.ScramSha512)
	allow(t, b, func(a *kadm.ACLBuilder) *kadm.ACLBuilder {
		return a.Clusters().Allow("User:ann", "User:bob", "User:till").AllowHosts().Operations(kadm.OpDescribe).ResourcePatternType(kadm.ACLPatternLiteral)
	})
	as256 := func(u, p string) sasl.Mechanism { return scram.Auth{User: u, Pass: p}.AsSha256Mechanism() }
	as512 := func(u, p string) sasl.Mechanism { return scram.Auth{User: u, Pass: p}.AsSha512Mechanism() }
	asPlain := func(u, p string) sasl.Mechanism { return plain.Auth{User: u, Pass: p}.AsMechanism() }
	asToken := func(token string) sasl.Mechanism { return oauth.Auth{Token: token}.AsMechanism() }
	refused := kerr.SaslAuthenticationFailed
	for name, tt := range map[string]struct {
		mech sasl.Mechanism
		want error
	}{
		"plain, of the file":  {asPlain("ann", "ann's password"), nil},
		"plain, of the state": {asPlain("bob", "bob's password"), nil},
		"256, of the file":    {as256("ann", "ann's password"), nil},
		"512, of the file":    {as512("ann", "ann's password"), nil},
		"256, of the state":   {as256("bob", "bob's password"), nil},
		"token":               {asToken(s.jwt(t, "till", time.Hour)), nil},
		"no such mechanism":   {as512("bob", "bob's password"), refused},
		"wrong, plain":        {asPlain("ann", "bob's password"), refused},
		"wrong, 256":          {as256("bob", "ann's password"), refused},
		"nobody":              {as256("dan", "dan's password"), refused},
		"expired":             {asToken(s.jwt(t, "till", -time.Hour)), refused},
		"no token":            {asToken("x.y.z"), refused},
		"without rights":      {as512("eve", "eve's password"), kerr.ClusterAuthorizationFailed},
	} {
		t.Run(name, func(t *testing.T) {
			cl, err := kgo.NewClient(quickly(addrs[0], kgo.SASL(tt.mech), kgo.DialTLSConfig(s.tls(t, "")))...)
			must(t, err)
			defer cl.Close()
			resp, err := kmsg.NewPtrDescribeACLsRequest().RequestWith(within(t), describing(cl))
			if err == nil {
				err = kerr.ErrorForCode(resp.ErrorCode)
			}
			// franz-go has words of its own for what a server says of a token.
			if tt.want == refused && tt.mech.Name() == "OAUTHBEARER" && err != nil {
				return
			}
			if !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
	t.Run("without a password", func(t *testing.T) {
		cl, err := kgo.NewClient(quickly(addrs[0], kgo.DialTLSConfig(s.tls(t, "")))...)
		must(t, err)
		defer cl.Close()
		if err := cl.Ping(within(t)); err == nil {
			t.Error("a client that did not log in was answered")
		}
	})
}

// describing asks for all rules whatever the request says of them.
func describing(cl *kgo.Client) kmsg.Requestor {
	return requestor(func(ctx context.Context, r kmsg.Request) (kmsg.Response, error) {
		d := r.(*kmsg.DescribeACLsRequest)
		d.ResourceType, d.ResourcePatternType = kmsg.ACLResourceTypeAny, kmsg.ACLResourcePatternTypeAny
		d.Operation, d.PermissionType = kmsg.ACLOperationAny, kmsg.ACLPermissionTypeAny
		return cl.Request(ctx, d)
	})
}

type requestor func(context.Context, kmsg.Request) (kmsg.Response, error)

func (f requestor) Request(ctx context.Context, r kmsg.Request) (kmsg.Response, error) {
	return f(ctx, r)
}

// TestRecordsOverTLS: the copying way of records, with a rotation of the
// certificate under an open client.
func TestRecordsOverTLS(t *testing.T) {
	s := newSecrets(t)
	b, addrs := secured(t, s, site.Listener{Name: "mutual", TLS: &site.TLS{
		Cert: "server.pem", Key: "server.key", ClientCA: "ca.pem", ClientAuth: "require",
		Principals: []string{"RULE:^CN=([^,]*),.*$/$1/L", "DEFAULT"},
	}})
	allow(t, b, func(a *kadm.ACLBuilder) *kadm.ACLBuilder {
		return a.Topics("t").Allow("User:till-7").AllowHosts("127.0.0.1").Operations(kadm.OpAll).ResourcePatternType(kadm.ACLPatternLiteral)
	})
	opts := quickly(addrs[0], kgo.DialTLSConfig(s.tls(t, "client")), kgo.AllowAutoTopicCreation(), kgo.DefaultProduceTopic("t"))
	cl, err := kgo.NewClient(append(opts, kgo.ConsumeTopics("t"))...)
	must(t, err)
	defer cl.Close()
	value := []byte(strings.Repeat("0123456789", 50_000))
	produce(t, cl, &kgo.Record{Value: value})
	if got := consume(t, cl, 1); string(got[0].Value) != string(value) {
		t.Errorf("%d bytes came back, and not the same", len(got[0].Value))
	}
	before, err := tls.Dial("tcp", addrs[0], s.tls(t, "client"))
	must(t, err)
	defer before.Close()
	s.certificate(t, "server", "broker of tomorrow")
	after, err := tls.Dial("tcp", addrs[0], s.tls(t, "client"))
	must(t, err)
	defer after.Close()
	if got := after.ConnectionState().PeerCertificates[0].Subject.CommonName; got != "broker of tomorrow" {
		t.Errorf("after the files changed the certificate is that of %q", got)
	}
	produce(t, cl, &kgo.Record{Value: []byte("still here")}) // on the connection of before
	consume(t, cl, 1)
	other, err := kgo.NewClient(quickly(addrs[0], kgo.DialTLSConfig(s.tls(t, "")))...)
	must(t, err)
	defer other.Close()
	if err := other.Ping(within(t)); err == nil {
		t.Error("a client without a certificate was answered")
	}
}

// TestSessions: a token's end is the session's, and a client that brings the
// next one goes on over the same connection (KIP-368).
func TestSessions(t *testing.T) {
	s := newSecrets(t)
	b, addrs := secured(t, s, passwords())
	allow(t, b, func(a *kadm.ACLBuilder) *kadm.ACLBuilder {
		return a.Topics("t").Allow("User:till").AllowHosts().Operations(kadm.OpAll).ResourcePatternType(kadm.ACLPatternLiteral)
	})
	tokens := 0
	mech := oauth.Oauth(func(context.Context) (oauth.Auth, error) {
		tokens++
		return oauth.Auth{Token: s.jwt(t, "till", 4*time.Second)}, nil
	})
	dials := 0
	config := s.tls(t, "")
	cl, err := kgo.NewClient(quickly(addrs[0], kgo.SASL(mech), kgo.AllowAutoTopicCreation(), kgo.DisableIdempotentWrite(), kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.Dialer(func(ctx context.Context, network, addr string) (net.Conn, error) {
			dials++
			return (&tls.Dialer{Config: config}).DialContext(ctx, network, addr)
		}))...)
	must(t, err)
	defer cl.Close()
	produce(t, cl, &kgo.Record{Topic: "t", Value: []byte("v")})
	first, dialled := tokens, dials
	eventually(t, "the client logs in again", func() bool {
		produce(t, cl, &kgo.Record{Topic: "t", Value: []byte("v")})
		return tokens > first
	})
	produce(t, cl, &kgo.Record{Topic: "t", Value: []byte("v")})
	if dials != dialled {
		t.Errorf("%d connections, want %d: the sessions were to go on", dials, dialled)
	}
}

// TestSecureKcat is librdkafka's word on TLS, certificates and SCRAM.
func TestSecureKcat(t *testing.T) {
	if _, err := exec.LookPath("kcat"); err != nil {
		t.Skip("kcat is not installed (apt install kcat)")
	}
	s := newSecrets(t)
	both := passwords()
	mutual := site.Listener{Name: "mutual", TLS: &site.TLS{Cert: "server.pem", Key: "server.key", ClientCA: "ca.pem", ClientAuth: "require"}}
	clear := site.Listener{Name: "clear", SASL: &site.SASL{Mechanisms: []string{"SCRAM-SHA-256"}, Users: "users"}}
	b, addrs := secured(t, s, both, mutual, clear)
	allow(t, b, func(a *kadm.ACLBuilder) *kadm.ACLBuilder {
		return a.Topics("t").Allow("User:ann", "User:CN=Till-7,O=Shop").AllowHosts().Operations(kadm.OpAll).ResourcePatternType(kadm.ACLPatternLiteral)
	})
	ca := "ssl.ca.location=" + s.file("ca.pem")
	login := []string{"sasl.username=ann", "sasl.password=ann's password"}
	for name, tt := range map[string]struct {
		addr  string
		props []string
		ok    bool
	}{
		"scram 512":  {addrs[0], append([]string{"security.protocol=sasl_ssl", ca, "sasl.mechanisms=SCRAM-SHA-512"}, login...), true},
		"plain":      {addrs[0], append([]string{"security.protocol=sasl_ssl", ca, "sasl.mechanisms=PLAIN"}, login...), true},
		"unsafe":     {addrs[2], append([]string{"security.protocol=sasl_plaintext", "sasl.mechanisms=SCRAM-SHA-256"}, login...), true},
		"wrong":      {addrs[0], []string{"security.protocol=sasl_ssl", ca, "sasl.mechanisms=PLAIN", "sasl.username=ann", "sasl.password=x"}, false},
		"mutual":     {addrs[1], []string{"security.protocol=ssl", ca, "ssl.certificate.location=" + s.file("client.pem"), "ssl.key.location=" + s.file("client.key")}, true},
		"no cert":    {addrs[1], []string{"security.protocol=ssl", ca}, false},
		"plain text": {addrs[0], nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			kcat := func(stdin string, args ...string) (string, error) {
				args = append([]string{"-b", tt.addr}, args...)
				for _, p := range append(tt.props, "message.timeout.ms=5000", "socket.timeout.ms=5000") {
					args = append(args, "-X", p)
				}
				cmd := exec.CommandContext(within(t), "kcat", args...)
				cmd.Stdin = strings.NewReader(stdin)
				out, err := cmd.Output()
				return string(out), err
			}
			if !tt.ok {
				if out, err := kcat("", "-L", "-m", "3"); err == nil {
					t.Errorf("kcat -L was answered:\n%s", out)
				}
				return
			}
			if _, err := kcat(name+"\n", "-P", "-t", "t"); err != nil {
				t.Fatal(err)
			}
			if got, err := kcat("", "-C", "-t", "t", "-o", "-1", "-c", "1", "-q"); err != nil || got != name+"\n" {
				t.Errorf("kcat -C: got %q, %v, want %q", got, err, name)
			}
		})
	}
}

// TestListen: what is wrong with a listener's files is said by name.
func TestListen(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	for want, l := range map[string]site.Listener{
		"listener a: load certificate": {Name: "a", TLS: tlsOnly},
		"listener b: read users":       {Name: "b", SASL: &site.SASL{Mechanisms: []string{"PLAIN"}, Users: "users"}},
		"listener c: read token keys":  {Name: "c", SASL: &site.SASL{Mechanisms: []string{"OAUTHBEARER"}, OAuth: &site.OAuth{JWKS: "x"}}},
		"needs keys":                   {Name: "d", SASL: &site.SASL{Mechanisms: []string{"OAUTHBEARER"}}},
	} {
		_, err := broker.Listen(l, t.TempDir(), log)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", l.Name, err, want)
		}
	}
}
