package mqtt

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"hash"
	"os"
	"strconv"
	"strings"
)

// users are those of a file: one user:secret a line. The secret is what
// mosquitto_passwd makes of a password ($7$iterations$salt$hash, which is
// PBKDF2 with SHA-512, or $6$salt$hash), what SCRAM does (RFC 5803, as the
// Kafka broker's users have it), or the password itself. Empty lines and
// those that begin with # mean nothing.
type users map[string]verifier

// verifier reports whether a password is right.
type verifier func(password []byte) bool

// maxIterations bounds what a login may cost.
const maxIterations = 1_000_000

func readUsers(file string) (*users, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read users: %v", err)
	}
	u, err := parseUsers(string(text))
	if err != nil {
		return nil, fmt.Errorf("%s:%w", file, err)
	}
	return &u, nil
}

// parseUsers names what is wrong by line, and never a secret.
func parseUsers(text string) (users, error) {
	u, number := users{}, 0
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimRight(line, "\r\n")
		if strings.TrimSpace(line) == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, secret, ok := strings.Cut(line, ":")
		if !ok || name == "" || secret == "" {
			return nil, fmt.Errorf("%d: want user:password", number)
		}
		if u[name] != nil {
			return nil, fmt.Errorf("%d: user %q is there twice", number, name)
		}
		v, err := parseSecret(secret)
		if err != nil {
			return nil, fmt.Errorf("%d: user %q: %v", number, name, err)
		}
		u[name] = v
	}
	return u, nil
}

func parseSecret(s string) (verifier, error) {
	switch {
	case strings.HasPrefix(s, "$7$"), strings.HasPrefix(s, "$6$"):
		return parseMosquitto(s)
	case strings.HasPrefix(s, "SCRAM-SHA-256$"):
		return parseScram(s, sha256.New)
	case strings.HasPrefix(s, "SCRAM-SHA-512$"):
		return parseScram(s, sha512.New)
	}
	want := sha256.Sum256([]byte(s)) // of one length for all
	return func(p []byte) bool {
		got := sha256.Sum256(p)
		return subtle.ConstantTimeCompare(got[:], want[:]) == 1
	}, nil
}

// parseMosquitto reads a line of mosquitto_passwd.
func parseMosquitto(s string) (verifier, error) {
	parts := strings.Split(s[3:], "$")
	iterations := 0
	if s[1] == '7' && len(parts) == 3 {
		n, err := strconv.Atoi(parts[0])
		if err != nil || n < 1 || n > maxIterations {
			return nil, fmt.Errorf("want 1 to %d iterations", maxIterations)
		}
		iterations, parts = n, parts[1:]
	}
	if len(parts) != 2 || (s[1] == '7') != (iterations > 0) {
		return nil, fmt.Errorf("want $7$iterations$salt$hash or $6$salt$hash")
	}
	salt, err1 := base64.StdEncoding.DecodeString(parts[0])
	want, err2 := base64.StdEncoding.DecodeString(parts[1])
	if err1 != nil || err2 != nil || len(want) != sha512.Size {
		return nil, fmt.Errorf("salt or hash is not base64 of the right length")
	}
	return func(p []byte) bool {
		var got []byte
		if iterations > 0 {
			key, err := pbkdf2.Key(sha512.New, string(p), salt, iterations, sha512.Size)
			if err != nil {
				return false
			}
			got = key
		} else {
			sum := sha512.Sum512(append(append([]byte{}, p...), salt...))
			got = sum[:]
		}
		return subtle.ConstantTimeCompare(got, want) == 1
	}, nil
}

// parseScram reads SCRAM-SHA-...$iterations:salt$stored key:server key.
func parseScram(s string, h func() hash.Hash) (verifier, error) {
	_, rest, _ := strings.Cut(s, "$")
	head, keys, ok := strings.Cut(rest, "$")
	count, salt64, ok2 := strings.Cut(head, ":")
	stored64, _, ok3 := strings.Cut(keys, ":")
	n, err := strconv.Atoi(count)
	if !ok || !ok2 || !ok3 || err != nil || n < 1 || n > maxIterations {
		return nil, fmt.Errorf("want SCRAM-SHA-...$iterations:salt$stored key:server key")
	}
	salt, err1 := base64.StdEncoding.DecodeString(salt64)
	stored, err2 := base64.StdEncoding.DecodeString(stored64)
	if err1 != nil || err2 != nil || len(stored) != h().Size() {
		return nil, fmt.Errorf("salt or stored key is not base64 of the right length")
	}
	return func(p []byte) bool {
		salted, err := pbkdf2.Key(h, string(p), salt, n, h().Size())
		if err != nil {
			return false
		}
		mac := hmac.New(h, salted)
		mac.Write([]byte("Client Key"))
		sum := h()
		sum.Write(mac.Sum(nil))
		return subtle.ConstantTimeCompare(sum.Sum(nil), stored) == 1
	}, nil
}

// check reports whether a user has this password. Whoever is unknown costs a
// caller no less than a wrong one only where both wait (hook.go).
func (u users) check(name string, password []byte) bool {
	v := u[name]
	return v != nil && v(password)
}
