package auth

import (
	"encoding/base64"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/waysideos/wayside/services/broker/meta"
	"github.com/waysideos/wayside/services/secret"
)

// Users are the users of a file, which is read again when it changes. A line
// is user:secret. The secret is a password, or what RFC 5803 makes of it:
// SCRAM-SHA-512$iterations:salt$stored key:server key (base64), of which a
// user may have one line for each of the two mechanisms. Empty lines and
// those that begin with # mean nothing.
type Users struct {
	file *secret.Reloaded[userFile]
}

// OpenUsers reads a file of users.
func OpenUsers(path string, log *slog.Logger) (*Users, error) {
	f, err := secret.Reload(log, func() (*userFile, error) {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read users: %v", err)
		}
		u, err := parseUsers(string(text))
		if err != nil {
			return nil, fmt.Errorf("%s:%w", path, err)
		}
		return u, nil
	}, path)
	if err != nil {
		return nil, err
	}
	return &Users{f}, nil
}

func (u *Users) find(user string, mechanism int8) (meta.Scram, bool) {
	return u.file.Get().find(user, mechanism)
}

// knows reports whether the file has a user, by whatever secret.
func (u *Users) knows(user string) bool {
	f := u.file.Get()
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.passwords[user]; ok {
		return true
	}
	for _, mechanism := range scramNumber {
		if _, ok := f.credentials[userKey{user, mechanism}]; ok {
			return true
		}
	}
	return false
}

type userKey struct {
	user      string
	mechanism int8
}

type userFile struct {
	passwords map[string]string

	mu          sync.Mutex
	credentials map[userKey]meta.Scram // given, or made of a password when first asked for
}

func (u *userFile) find(user string, mechanism int8) (meta.Scram, bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if c, ok := u.credentials[userKey{user, mechanism}]; ok {
		return c, true
	}
	password, ok := u.passwords[user]
	if !ok {
		return meta.Scram{}, false
	}
	c, err := hashed(user, mechanism, MinIterations, newSalt(), password)
	if err != nil {
		return meta.Scram{}, false
	}
	u.credentials[userKey{user, mechanism}] = c
	return c, true
}

// parseUsers reads lines of user:secret. Errors name the line and never the
// secret.
func parseUsers(text string) (*userFile, error) {
	u := &userFile{passwords: map[string]string{}, credentials: map[userKey]meta.Scram{}}
	number := 0
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimRight(line, "\r\n")
		if strings.TrimSpace(line) == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if err := u.add(line); err != nil {
			return nil, fmt.Errorf("%d: %v", number, err)
		}
	}
	return u, nil
}

func (u *userFile) add(line string) error {
	user, secret, ok := strings.Cut(line, ":")
	if !ok || user == "" || secret == "" {
		return fmt.Errorf("want user:password")
	}
	for name, mechanism := range scramNumber {
		rest, ok := strings.CutPrefix(secret, name+"$")
		if !ok {
			continue
		}
		key := userKey{user, mechanism}
		if _, twice := u.credentials[key]; twice {
			return fmt.Errorf("user %q has a second %s", user, name)
		}
		c, err := parseVerifier(rest)
		if err != nil {
			return fmt.Errorf("user %q: %v", user, err)
		}
		c.User, c.Mechanism = user, mechanism
		u.credentials[key] = c
		return nil
	}
	if _, twice := u.passwords[user]; twice {
		return fmt.Errorf("user %q has a second password", user)
	}
	u.passwords[user] = secret
	return nil
}

// parseVerifier reads iterations:salt$stored key:server key.
func parseVerifier(s string) (c meta.Scram, err error) {
	head, keys, ok := strings.Cut(s, "$")
	iterations, salt, ok2 := strings.Cut(head, ":")
	stored, server, ok3 := strings.Cut(keys, ":")
	n, numErr := strconv.ParseInt(iterations, 10, 32)
	if !ok || !ok2 || !ok3 || numErr != nil || n < MinIterations {
		return c, fmt.Errorf("want SCRAM-SHA-...$iterations:salt$stored key:server key with at least %d iterations", MinIterations)
	}
	c.Iterations = int32(n)
	for text, to := range map[string]*[]byte{salt: &c.Salt, stored: &c.StoredKey, server: &c.ServerKey} {
		if *to, err = base64.StdEncoding.DecodeString(text); err != nil {
			return c, fmt.Errorf("salt or key is not base64")
		}
	}
	return c, nil
}
