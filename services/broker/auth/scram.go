package auth

import (
	"bytes"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"slices"
	"strings"
	"sync"

	"github.com/waysideos/wayside/services/broker/meta"
)

// The protocol's numbers of SCRAM mechanisms (KIP-554).
const (
	ScramSHA256 int8 = 1
	ScramSHA512 int8 = 2
)

// What an AlterUserScramCredentials may ask for, as Kafka.
const (
	MinIterations = 4096
	MaxIterations = 16384
)

var hashes = map[int8]func() hash.Hash{ScramSHA256: sha256.New, ScramSHA512: sha512.New}

var scramNumber = map[string]int8{scram256: ScramSHA256, scram512: ScramSHA512}

// Salted makes a credential of the salted password that a client has
// computed (RFC 5802, section 3).
func Salted(user string, mechanism int8, iterations int32, salt, password []byte) meta.Scram {
	h := hashes[mechanism]
	client := mac(h, password, "Client Key")
	stored := h()
	stored.Write(client)
	return meta.Scram{
		User: user, Mechanism: mechanism, Iterations: iterations, Salt: salt,
		StoredKey: stored.Sum(nil), ServerKey: mac(h, password, "Server Key"),
	}
}

// hashed makes a credential of a password.
func hashed(user string, mechanism int8, iterations int32, salt []byte, password string) (meta.Scram, error) {
	h := hashes[mechanism]
	salted, err := pbkdf2.Key(h, password, salt, int(iterations), h().Size())
	if err != nil {
		return meta.Scram{}, fmt.Errorf("hash a password: %v", err)
	}
	return Salted(user, mechanism, iterations, salt, salted), nil
}

func newSalt() []byte {
	salt := make([]byte, 16)
	rand.Read(salt)
	return salt
}

func mac(h func() hash.Hash, key []byte, text string) []byte {
	m := hmac.New(h, key)
	m.Write([]byte(text))
	return m.Sum(nil)
}

// proves reports whether a password is the credential's.
func proves(c meta.Scram, password string) bool {
	got, err := hashed(c.User, c.Mechanism, c.Iterations, c.Salt, password)
	return err == nil && hmac.Equal(got.StoredKey, c.StoredKey)
}

// scramTalk is the server's side of RFC 5802. It is our own because of the
// nonce: librdkafka before 2.6.1 sends its own part of it twice, which Kafka
// lets pass, and the libraries do not.
type scramTalk struct {
	mechanism string
	users     directory
	nonce     string // the server's part; made at the first message

	credential  meta.Scram
	user        string
	header      string // gs2-header of the first message
	authMessage string // what both sides sign, as far as it has been said
	whole       string // both parts of the nonce
	step        int
}

func (t *scramTalk) Next(token []byte) ([]byte, *Identity, error) {
	t.step++
	switch t.step {
	case 1:
		reply, err := t.first(string(token))
		return []byte(reply), nil, err
	case 2:
		reply, err := t.final(string(token))
		if err != nil {
			return nil, nil, err
		}
		return []byte(reply), &Identity{User: t.user}, nil
	}
	return nil, nil, errors.New("a SCRAM exchange has two messages")
}

// first answers n,a=authorization,n=user,r=nonce with the user's salt.
func (t *scramTalk) first(msg string) (string, error) {
	parts := strings.SplitN(msg, ",", 3)
	if len(parts) != 3 || parts[0] != "n" && parts[0] != "y" {
		return "", errors.New("a SCRAM message begins with n,, and channels are not bound")
	}
	t.header = parts[0] + "," + parts[1] + ","
	bare := strings.Split(parts[2], ",")
	if len(bare) < 2 || !strings.HasPrefix(bare[0], "n=") || !strings.HasPrefix(bare[1], "r=") || len(bare[1]) < len("r=x") {
		return "", errors.New("a first SCRAM message holds n=user,r=nonce")
	}
	if slices.Contains(bare[2:], "tokenauth=true") {
		return "", errors.New("delegation tokens are not known here")
	}
	var err error
	if t.user, err = saslName(bare[0][len("n="):]); err != nil {
		return "", err
	}
	as, err := saslName(strings.TrimPrefix(parts[1], "a="))
	if err != nil || as != "" && as != t.user {
		return "", fmt.Errorf("user %q asks to act as %q", t.user, parts[1])
	}
	var ok bool
	if t.credential, ok = t.users.find(t.user, scramNumber[t.mechanism]); !ok {
		return "", fmt.Errorf("no credential of user %q for %s", t.user, t.mechanism)
	}
	if t.nonce == "" {
		t.nonce = rand.Text()
	}
	t.whole = bare[1][len("r="):] + t.nonce
	reply := fmt.Sprintf("r=%s,s=%s,i=%d", t.whole, base64.StdEncoding.EncodeToString(t.credential.Salt), t.credential.Iterations)
	t.authMessage = parts[2] + "," + reply + ","
	return reply, nil
}

// final verifies c=header,r=nonce,p=proof and proves that the server knows the
// credential too.
func (t *scramTalk) final(msg string) (string, error) {
	at := strings.LastIndex(msg, ",p=")
	if at < 0 {
		return "", errors.New("a last SCRAM message ends with a proof")
	}
	parts := strings.Split(msg[:at], ",")
	if len(parts) < 2 || !strings.HasPrefix(parts[0], "c=") || !strings.HasPrefix(parts[1], "r=") {
		return "", errors.New("a last SCRAM message holds c=header,r=nonce")
	}
	header, err := base64.StdEncoding.DecodeString(parts[0][len("c="):])
	// Java's client says n,, whatever it said first.
	if err != nil || string(header) != t.header && (string(header) != "n,," || t.header[0] != 'n') {
		return "", errors.New("the header is not that of the first message")
	}
	if !strings.HasSuffix(parts[1], t.whole) {
		return "", errors.New("the nonce is not that of the first message")
	}
	proof, err := base64.StdEncoding.DecodeString(msg[at+len(",p="):])
	if err != nil {
		return "", errors.New("the proof is not base64")
	}
	h := hashes[t.credential.Mechanism]
	signed := t.authMessage + msg[:at]
	key := mac(h, t.credential.StoredKey, signed)
	if len(proof) != len(key) {
		return "", errors.New("the proof is too short or too long")
	}
	subtle.XORBytes(key, key, proof)
	stored := h()
	stored.Write(key)
	if !hmac.Equal(stored.Sum(nil), t.credential.StoredKey) {
		return "", fmt.Errorf("wrong password of user %q", t.user)
	}
	return "v=" + base64.StdEncoding.EncodeToString(mac(h, t.credential.ServerKey, signed)), nil
}

// saslName reads a name in which = and , are written =3D and =2C.
func saslName(s string) (string, error) {
	plain := strings.NewReplacer("=2C", ",", "=3D", "=").Replace(s)
	if strings.Count(s, "=") != strings.Count(s, "=2C")+strings.Count(s, "=3D") {
		return "", fmt.Errorf("name %q holds a bare =", s)
	}
	return plain, nil
}

// plainTalk is RFC 4616: authorization id, user and password in one message.
type plainTalk struct {
	users directory
	// hashing bounds how many passwords are hashed at once: a hash takes
	// milliseconds, and anybody may send passwords.
	hashing *sync.Mutex
}

func (t plainTalk) Next(token []byte) ([]byte, *Identity, error) {
	parts := bytes.Split(token, []byte{0})
	if len(parts) != 3 {
		return nil, nil, errors.New("a PLAIN message has three parts")
	}
	as, user, password := string(parts[0]), string(parts[1]), string(parts[2])
	switch {
	case user == "" || password == "":
		return nil, nil, errors.New("user or password is empty")
	case as != "" && as != user:
		return nil, nil, fmt.Errorf("user %q asks to act as %q", user, as)
	}
	t.hashing.Lock()
	defer t.hashing.Unlock()
	for _, mechanism := range []int8{ScramSHA512, ScramSHA256} {
		c, ok := t.users.find(user, mechanism)
		if !ok {
			continue
		}
		if !proves(c, password) {
			return nil, nil, fmt.Errorf("wrong password of user %q", user)
		}
		return nil, &Identity{User: user}, nil
	}
	// As slow as for a user who exists, so that time tells no names.
	proves(meta.Scram{Mechanism: ScramSHA512, Iterations: MinIterations, Salt: []byte("nobody")}, password)
	return nil, nil, fmt.Errorf("user %q is not known", user)
}
