package server

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/broker/auth"
	"github.com/waysideos/wayside/services/broker/meta"
)

// guardedListener serves s on a port whose clients must log in: ann has the
// password "secret", bob "other".
func guardedListener(t *testing.T, s *Server, edit ...func(*auth.Security)) (addr string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "users")
	if err := os.WriteFile(path, []byte("ann:secret\nbob:other\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	users, err := auth.OpenUsers(path, s.Log)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	sec := auth.Security{Name: "guarded", SASL: &auth.SASL{Mechanisms: []string{"PLAIN", "SCRAM-SHA-256"}, Users: users}}
	for _, e := range edit {
		e(&sec)
	}
	done := make(chan error)
	go func() { done <- s.Serve(t.Context(), []net.Listener{&auth.Listener{Listener: ln, Security: sec}}) }()
	t.Cleanup(func() {
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return ln.Addr().String()
}

// talker sends requests one by one.
type talker struct {
	t *testing.T
	net.Conn
}

// ask returns false when the server closes the connection instead.
func (c talker) ask(req kmsg.Request, resp kmsg.Response) bool {
	c.t.Helper()
	c.Write(frameOf(req, 1))
	var head [8]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		if err != io.EOF && !isReset(err) {
			c.t.Fatal(err)
		}
		return false
	}
	body := make([]byte, binary.BigEndian.Uint32(head[:])-4)
	if _, err := io.ReadFull(c, body); err != nil {
		c.t.Fatal(err)
	}
	resp.SetVersion(req.GetVersion())
	if resp.IsFlexible() && req.Key() != kmsg.ApiVersions.Int16() {
		body = body[1:]
	}
	if err := resp.ReadFrom(body); err != nil {
		c.t.Fatal(err)
	}
	return true
}

func (c talker) handshake(mechanism string) (code int16) {
	c.t.Helper()
	req, resp := kmsg.NewPtrSASLHandshakeRequest(), kmsg.NewPtrSASLHandshakeResponse()
	req.Version, req.Mechanism = 1, mechanism
	if !c.ask(req, resp) {
		c.t.Fatal("closed instead of a handshake")
	}
	return resp.ErrorCode
}

func (c talker) token(token string) (*kmsg.SASLAuthenticateResponse, bool) {
	c.t.Helper()
	req, resp := kmsg.NewPtrSASLAuthenticateRequest(), kmsg.NewPtrSASLAuthenticateResponse()
	req.Version, req.SASLAuthBytes = 2, []byte(token)
	ok := c.ask(req, resp)
	return resp, ok
}

func (c talker) login(user, password string) int16 {
	c.t.Helper()
	if code := c.handshake("PLAIN"); code != 0 {
		return code
	}
	resp, _ := c.token("\x00" + user + "\x00" + password)
	return resp.ErrorCode
}

// isOpen asks for something that only those who are known may ask.
func (c talker) isOpen() bool {
	c.t.Helper()
	req := kmsg.NewPtrMetadataRequest()
	req.Version = 9
	return c.ask(req, kmsg.NewPtrMetadataResponse())
}

// TestStrangers: what a client may do that has not said who it is.
func TestStrangers(t *testing.T) {
	s := newServer(t)
	addr := guardedListener(t, s)
	for name, tt := range map[string]struct {
		do   func(talker)
		open bool
	}{
		"nothing":              {func(talker) {}, false},
		"versions":             {func(c talker) { c.ask(kmsg.NewPtrApiVersionsRequest(), kmsg.NewPtrApiVersionsResponse()) }, false},
		"handshake":            {func(c talker) { c.handshake("PLAIN") }, false},
		"right":                {func(c talker) { c.login("ann", "secret") }, true},
		"other user":           {func(c talker) { c.login("ann", "other") }, false},
		"half a SCRAM":         {func(c talker) { c.handshake("SCRAM-SHA-256"); c.token("n,,n=ann,r=abc") }, false},
		"no handshake":         {func(c talker) { c.token("\x00ann\x00secret") }, false},
		"unknown mechanism":    {func(c talker) { c.handshake("GSSAPI") }, false},
		"wrong, then right":    {func(c talker) { c.login("ann", "wrong"); c.Write(frameOf(kmsg.NewPtrSASLHandshakeRequest(), 1)) }, false},
		"handshake over again": {func(c talker) { c.handshake("SCRAM-SHA-256"); c.login("ann", "secret") }, true},
	} {
		t.Run(name, func(t *testing.T) {
			c := talker{t, dial(t, addr)}
			tt.do(c)
			if got := c.isOpen(); got != tt.open {
				t.Errorf("open: got %v, want %v", got, tt.open)
			}
		})
	}
}

// TestStrangersAreSmall: what a stranger sends is bounded before it is read,
// and while strangers hold all of their memory the others are served.
func TestStrangersAreSmall(t *testing.T) {
	s := newServer(t)
	s.Connections = 100
	addr := guardedListener(t, s)
	known := talker{t, dial(t, addr)}
	if code := known.login("ann", "secret"); code != 0 {
		t.Fatalf("code %d", code)
	}
	big := kmsg.NewPtrSASLAuthenticateRequest()
	big.SASLAuthBytes = bytes.Repeat([]byte("x"), strangerBytes)
	c := talker{t, dial(t, addr)}
	c.handshake("PLAIN")
	if c.ask(big, kmsg.NewPtrSASLAuthenticateResponse()) {
		t.Error("a long message of a stranger was taken")
	}
	begun := frameOf(big, 1)[:100]
	binary.BigEndian.PutUint32(begun, strangerBytes)
	for range strangerMemory / strangerBytes { // all that strangers together may hold, and they do not go on
		dial(t, addr).Write(begun)
	}
	if !known.isOpen() {
		t.Error("a client that is known was not served")
	}
	if code := (talker{t, dial(t, addr)}).login("ann", "secret"); code != 0 {
		t.Errorf("a client that logs in: code %d", code)
	}
}

// TestRawTokens is SaslHandshake version 0, of clients before Kafka 1.0.
func TestRawTokens(t *testing.T) {
	addr := guardedListener(t, newServer(t))
	for password, want := range map[string]bool{"secret": true, "wrong": false} {
		c := talker{t, dial(t, addr)}
		req, resp := kmsg.NewPtrSASLHandshakeRequest(), kmsg.NewPtrSASLHandshakeResponse()
		req.Mechanism = "PLAIN"
		if !c.ask(req, resp) || resp.ErrorCode != 0 {
			t.Fatalf("handshake: %+v", resp)
		}
		c.Write(appendRaw(nil, []byte("\x00ann\x00"+password)))
		var answer [4]byte
		_, err := io.ReadFull(c, answer[:])
		if ok := err == nil && answer == [4]byte{}; ok != want {
			t.Fatalf("password %s: got % x, %v", password, answer, err)
		}
		if want && !c.isOpen() {
			t.Error("not open after an empty answer")
		}
	}
	c := talker{t, dial(t, addr)}
	c.ask(kmsg.NewPtrSASLHandshakeRequest(), kmsg.NewPtrSASLHandshakeResponse())
	c.Write([]byte{0x7f, 0xff, 0xff, 0xff})
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("a message of 2 GB was waited for")
	}
}

// TestAgain: who is known may log in again, as the same and no other; and must
// when the session ends (KIP-368).
func TestAgain(t *testing.T) {
	s := newServer(t)
	addr := guardedListener(t, s, func(sec *auth.Security) { sec.SASL.MaxSession = 700 * time.Millisecond })
	c := talker{t, dial(t, addr)}
	c.handshake("PLAIN")
	resp, _ := c.token("\x00ann\x00secret")
	if resp.ErrorCode != 0 || resp.SessionLifetimeMillis < 1 || resp.SessionLifetimeMillis > 700 {
		t.Fatalf("login: %+v", resp)
	}
	if code := c.handshake("SCRAM-SHA-256"); code != kerr.IllegalSaslState.Code {
		t.Errorf("another mechanism: code %d", code)
	}
	begin := time.Now()
	for time.Since(begin) < 1500*time.Millisecond {
		if code := c.login("ann", "secret"); code != 0 {
			t.Fatalf("login again: code %d", code)
		}
		if !c.isOpen() {
			t.Fatal("closed although logged in again")
		}
	}
	eventually(t, "a session that has ended is closed", func() bool { return !c.isOpen() })
	c = talker{t, dial(t, addr)}
	c.login("ann", "secret")
	if code := c.login("bob", "other"); code != kerr.SaslAuthenticationFailed.Code {
		t.Errorf("as another user: code %d", code)
	}
	if c.isOpen() {
		t.Error("still open after that")
	}
}

// TestFailuresAreSlow: the answer to a wrong password takes its time, and
// says nothing of what was wrong.
func TestFailuresAreSlow(t *testing.T) {
	addr := guardedListener(t, newServer(t))
	var texts []string
	for _, user := range []string{"ann", "nobody"} {
		c := talker{t, dial(t, addr)}
		c.handshake("PLAIN")
		begin := time.Now()
		resp, ok := c.token("\x00" + user + "\x00wrong")
		if !ok || resp.ErrorCode != kerr.SaslAuthenticationFailed.Code {
			t.Fatalf("%s: %+v", user, resp)
		}
		if d := time.Since(begin); d < authDelay {
			t.Errorf("%s: refused after %v, want at least %v", user, d, authDelay)
		}
		texts = append(texts, deref(resp.ErrorMessage))
	}
	if texts[0] != texts[1] {
		t.Errorf("who is known can be told from who is not: %q", texts)
	}
}

// TestPlainListener has no SASL, and says so.
func TestPlainListener(t *testing.T) {
	c := talker{t, dial(t, listen(t, newServer(t)))}
	if code := c.handshake("PLAIN"); code != kerr.IllegalSaslState.Code {
		t.Errorf("handshake: code %d", code)
	}
	if resp, ok := c.token("x"); !ok || resp.ErrorCode != kerr.IllegalSaslState.Code {
		t.Errorf("token: %+v", resp)
	}
	if !c.isOpen() {
		t.Error("closed after that")
	}
}

// TestTrustedBox: on a listener that trusts the box, who comes from the box
// is the box.
func TestTrustedBox(t *testing.T) {
	for trust, want := range map[bool]bool{true: true, false: false} {
		s := newServer(t)
		s.Authorizer = auth.NewAuthorizer(auth.Policy{SuperUsers: []string{auth.Box}}, nil)
		addr := guardedListener(t, s, func(sec *auth.Security) { sec.SASL, sec.TrustBox = nil, trust })
		c := talker{t, dial(t, addr)}
		req, resp := kmsg.NewPtrDescribeUserSCRAMCredentialsRequest(), kmsg.NewPtrDescribeUserSCRAMCredentialsResponse()
		if !c.ask(req, resp) || (resp.ErrorCode == 0) != want {
			t.Errorf("trust %v: code %d", trust, resp.ErrorCode)
		}
	}
}

// TestACLFilters: which rules a filter of KIP-290 finds.
func TestACLFilters(t *testing.T) {
	acl := func(name string, pattern kmsg.ACLResourcePatternType) meta.ACL {
		a := rule(kmsg.ACLResourceTypeTopic, name, mayRead)
		a.Pattern = int8(pattern)
		return a
	}
	literal, prefixed := kmsg.ACLResourcePatternTypeLiteral, kmsg.ACLResourcePatternTypePrefixed
	all := []meta.ACL{acl("*", literal), acl("abc", literal), acl("ab", prefixed), acl("abc", prefixed), acl("abcd", prefixed)}
	name := "abc"
	for _, tt := range []struct {
		pattern kmsg.ACLResourcePatternType
		name    *string
		want    string
	}{
		{kmsg.ACLResourcePatternTypeAny, nil, "11111"},
		{kmsg.ACLResourcePatternTypeAny, &name, "01010"},
		{kmsg.ACLResourcePatternTypeMatch, &name, "11110"},
		{literal, &name, "01000"},
		{prefixed, &name, "00010"},
		{prefixed, nil, "00111"},
	} {
		f := aclFilter{kind: kmsg.ACLResourceTypeTopic, pattern: tt.pattern, name: tt.name, op: kmsg.ACLOperationAny, permission: kmsg.ACLPermissionTypeAny}
		got := ""
		for _, a := range all {
			got += map[bool]string{true: "1", false: "0"}[f.matches(a)]
		}
		if got != tt.want {
			t.Errorf("%s %v: got %s, want %s", tt.pattern, deref(tt.name), got, tt.want)
		}
	}
}
