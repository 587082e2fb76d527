package auth

import (
	"context"
	"crypto/pbkdf2"
	"crypto/subtle"
	"encoding/base64"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/waysideos/wayside/services/broker/meta"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// quiet is a log whose lines nobody wants.
func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// state is the broker's state with some users whose password is "pencil".
func state(t testing.TB, salt []byte, users ...string) Credentials {
	t.Helper()
	known := map[userKey]meta.Scram{}
	for _, u := range users {
		for mechanism := range hashes {
			c, err := hashed(u, mechanism, 4096, salt, "pencil")
			must(t, err)
			known[userKey{u, mechanism}] = c
		}
	}
	return func(user string, mechanism int8) (meta.Scram, bool) {
		c, ok := known[userKey{user, mechanism}]
		return c, ok
	}
}

// TestScramVector is the exchange that RFC 7677 gives, section 3.
func TestScramVector(t *testing.T) {
	salt, err := base64.StdEncoding.DecodeString("W22ZaJ0SNY7soEsUEjb6gQ==")
	must(t, err)
	talk := &scramTalk{mechanism: scram256, users: directory{state: state(t, salt, "user")}, nonce: "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"}
	reply, who, err := talk.Next([]byte("n,,n=user,r=rOprNGfwEbeRWgbNEkqO"))
	if want := "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"; string(reply) != want || err != nil || who != nil {
		t.Fatalf("first answer: got %s, %v, %v, want %s", reply, who, err, want)
	}
	reply, who, err = talk.Next([]byte("c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="))
	if want := "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="; string(reply) != want || err != nil || who == nil || who.User != "user" {
		t.Fatalf("second answer: got %s, %v, %v, want %s", reply, who, err, want)
	}
}

// TestScramMessages: what is not an exchange, and what is one although the
// RFC knows it not.
func TestScramMessages(t *testing.T) {
	users := directory{state: state(t, []byte("salt"), "user", "a,b=c")}
	// proof makes the last message for a first one, as a client would.
	final := func(bare, reply, nonce, header string) string {
		c, _ := users.find("user", ScramSHA512)
		h := hashes[ScramSHA512]
		salted, err := pbkdf2.Key(h, "pencil", c.Salt, int(c.Iterations), h().Size())
		must(t, err)
		client := mac(h, salted, "Client Key")
		start := "c=" + base64.StdEncoding.EncodeToString([]byte(header)) + ",r=" + nonce
		subtle.XORBytes(client, client, mac(h, c.StoredKey, bare+","+reply+","+start))
		return start + ",p=" + base64.StdEncoding.EncodeToString(client)
	}
	const bare = "n=user,r=abc"
	for name, tt := range map[string]struct {
		first         string
		nonce, header string
		ok            bool
	}{
		"as it should be":       {"n,," + bare, "abcSERVER", "n,,", true},
		"librdkafka's nonce":    {"n,," + bare, "abcabcSERVER", "n,,", true},
		"Java's header":         {"n,a=user," + bare, "abcSERVER", "n,,", true},
		"another nonce":         {"n,," + bare, "abcSERVERx", "n,,", false},
		"only the client's":     {"n,," + bare, "abc", "n,,", false},
		"another header":        {"n,," + bare, "abcSERVER", "y,,", false},
		"a header taken back":   {"y,," + bare, "abcSERVER", "n,,", false},
		"bound to a channel":    {"p=tls-unique,," + bare, "", "", false},
		"as somebody else":      {"n,a=boss," + bare, "", "", false},
		"a token":               {"n,," + bare + ",tokenauth=true", "", "", false},
		"no nonce":              {"n,,n=user", "", "", false},
		"an empty nonce":        {"n,,n=user,r=", "", "", false},
		"nobody":                {"n,,n=dan,r=abc", "", "", false},
		"a bare =":              {"n,,n=a=b,r=abc", "", "", false},
		"an extension required": {"n,,m=x,n=user,r=abc", "", "", false},
	} {
		talk := &scramTalk{mechanism: scram512, users: users, nonce: "SERVER"}
		reply, who, err := talk.Next([]byte(tt.first))
		if err == nil {
			_, who, err = talk.Next([]byte(final(bare, string(reply), tt.nonce, tt.header)))
		}
		if (err == nil) != tt.ok || tt.ok && who.User != "user" {
			t.Errorf("%s: got %v, %v, want success %v", name, who, err, tt.ok)
		}
		if _, _, err := talk.Next([]byte("n,," + bare)); err == nil {
			t.Errorf("%s: a third message was taken", name)
		}
	}
	if _, _, err := (&scramTalk{mechanism: scram256, users: users}).Next([]byte("n,,n=a=2Cb=3Dc,r=abc")); err != nil {
		t.Errorf("a name with a comma: %v", err)
	}
}

// login plays a client.
func login(s *SASL, creds Credentials, mechanism, user, password string) (*Identity, error) {
	talk, err := s.Start(mechanism, creds)
	if err != nil {
		return nil, err
	}
	if mechanism == plain {
		_, who, err := talk.Next([]byte("\x00" + user + "\x00" + password))
		return who, err
	}
	client := scram.Auth{User: user, Pass: password}.AsSha256Mechanism()
	if mechanism == scram512 {
		client = scram.Auth{User: user, Pass: password}.AsSha512Mechanism()
	}
	session, msg, err := client.Authenticate(context.Background(), "")
	if err != nil {
		return nil, err
	}
	for {
		reply, who, err := talk.Next(msg)
		if err != nil {
			return nil, err
		}
		// In the end the client believes the server, too.
		done, next, err := session.Challenge(reply)
		if err != nil || done {
			return who, err
		}
		msg = next
	}
}

func TestPasswords(t *testing.T) {
	path := filepath.Join(t.TempDir(), "users")
	c, err := hashed("hashed", ScramSHA512, 5000, []byte("salt"), "pen:cil")
	must(t, err)
	enc := base64.StdEncoding.EncodeToString
	verifier := "SCRAM-SHA-512$5000:" + enc(c.Salt) + "$" + enc(c.StoredKey) + ":" + enc(c.ServerKey)
	must(t, os.WriteFile(path, []byte("# users\n\nfiled:se cret:x\nboth:of the file\nhashed:"+verifier+"\r\nhalf:"+verifier+"\n"), 0o600))
	users, err := OpenUsers(path, quiet())
	must(t, err)
	s := &SASL{Mechanisms: []string{plain, scram256, scram512}, Users: users}
	for _, tt := range []struct {
		user, password string
		mechanisms     []string
		ok             bool
	}{
		{"filed", "se cret:x", s.Mechanisms, true},
		{"filed", "se cret", s.Mechanisms, false},
		{"kept", "pencil", s.Mechanisms, true},
		{"kept", "pencil ", s.Mechanisms, false},
		{"both", "of the file", s.Mechanisms, true},
		{"both", "pencil", s.Mechanisms, false},
		{"hashed", "pen:cil", []string{plain, scram512}, true},
		{"hashed", "pen:cil", []string{scram256}, false}, // it has no such verifier
		{"half", "pen:cil", []string{plain, scram512}, true},
		{"half", "pencil", []string{plain, scram256}, false}, // whom the file knows, the state does not
		{"hashed", verifier, s.Mechanisms, false},            // the verifier is no password
		{"nobody", "pencil", s.Mechanisms, false},
		{"", "", []string{plain}, false},
	} {
		for _, m := range tt.mechanisms {
			who, err := login(s, state(t, []byte("salt"), "kept", "both", "half"), m, tt.user, tt.password)
			if ok := err == nil; ok != tt.ok || ok && who.User != tt.user {
				t.Errorf("%s by %s with %q: got %v, %v, want %v", tt.user, m, tt.password, who, err, tt.ok)
			}
		}
	}
	if _, err := s.Start("GSSAPI", nil); err == nil {
		t.Error("GSSAPI was begun")
	}
	if _, who, err := (plainTalk{directory{file: users}, &s.hashing}).Next([]byte("other\x00filed\x00se cret:x")); err == nil {
		t.Errorf("acting as somebody else: %v", who)
	}
}

// TestUsersReload: a changed file counts at once, a broken one not at all.
func TestUsersReload(t *testing.T) {
	path := filepath.Join(t.TempDir(), "users")
	must(t, os.WriteFile(path, []byte("a:one\n"), 0o600))
	users, err := OpenUsers(path, quiet())
	must(t, err)
	s := &SASL{Mechanisms: []string{plain}, Users: users}
	check := func(password string, want bool) {
		t.Helper()
		if _, err := login(s, nil, plain, "a", password); (err == nil) != want {
			t.Errorf("password %q: got %v, want success %v", password, err, want)
		}
	}
	check("one", true)
	replaceFile(t, path, "a:two\n")
	check("one", false)
	check("two", true)
	replaceFile(t, path, "a line without a colon\n")
	check("two", true)
	must(t, os.Remove(path))
	check("two", true)
	replaceFile(t, path, "b:three\n")
	check("two", false)
}

// replaceFile writes a file anew, so that it is seen to have changed.
func replaceFile(t testing.TB, path, text string) {
	t.Helper()
	must(t, os.WriteFile(path+".new", []byte(text), 0o600))
	must(t, os.Rename(path+".new", path))
}

func TestUsersComplaints(t *testing.T) {
	for text, want := range map[string]string{
		"a:b\nc\n":                     "2: want user:password",
		":b\n":                         "1: want user:password",
		"a:\n":                         "1: want user:password",
		"a:b\na:c\n":                   `2: user "a" has a second password`,
		"a:SCRAM-SHA-256$1:c$d:e\n":    "at least 4096 iterations",
		"a:SCRAM-SHA-256$5000:!$e:f\n": "not base64",
	} {
		_, err := parseUsers(text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", text, err, want)
		}
	}
}

func FuzzUsers(f *testing.F) {
	f.Add("a:b\n# c\nd:SCRAM-SHA-512$4096:c2FsdA==$a2V5:a2V5\n")
	f.Fuzz(func(t *testing.T, text string) {
		if u, err := parseUsers(text); err == nil && len(u.passwords)+len(u.credentials) > strings.Count(text, ":") {
			t.Errorf("more users than lines: %q", text)
		}
	})
}

// FuzzTalks: nothing a stranger sends is more than an error.
func FuzzTalks(f *testing.F) {
	f.Add(byte(0), []byte("\x00user\x00pencil"), []byte{})
	f.Add(byte(1), []byte("n,,n=user,r=abc"), []byte("c=biws,r=abc,p=AAAA"))
	f.Add(byte(3), []byte("n,,\x01auth=Bearer a.b.c\x01\x01"), []byte{1})
	users := directory{state: state(f, []byte("salt"), "user")}
	s := &SASL{Mechanisms: Mechanisms, OAuth: &OAuth{keys: keysOf(f, newKey(f, "k")), now: time.Now}}
	f.Fuzz(func(t *testing.T, m byte, one, two []byte) {
		talk, err := s.Start(Mechanisms[int(m)%len(Mechanisms)], users.state)
		must(t, err)
		for _, msg := range [][]byte{one, two} {
			if _, who, err := talk.Next(msg); err != nil {
				return
			} else if who != nil && string(one) != "\x00user\x00pencil" && string(one) != "user\x00user\x00pencil" {
				t.Fatalf("let in as %v", who)
			}
		}
	})
}
