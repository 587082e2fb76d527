package auth

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/waysideos/wayside/services/secret"
)

// OAuthFiles say which tokens are taken.
type OAuthFiles struct {
	JWKS     string   // file of a JSON Web Key Set (RFC 7517); read again when it changes
	Issuer   string   // wanted in every token; "" is any
	Audience []string // one of these must be in every token; none is any
	Claim    string   // that holds the user's name; "" is "sub"
}

// OAuth verifies tokens (RFC 7628, KIP-255).
type OAuth struct {
	files OAuthFiles
	keys  *secret.Reloaded[jose.JSONWebKeySet]
	now   func() time.Time
}

// signatures are the algorithms taken: only those by which a key that
// verifies cannot sign.
var signatures = []jose.SignatureAlgorithm{
	jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512,
	jose.ES256, jose.ES384, jose.ES512, jose.EdDSA,
}

const (
	// leeway is how far the clocks of issuer and box may differ.
	leeway = 30 * time.Second
	// longestToken keeps whom we do not know from making us work.
	longestToken = 24 << 10
)

// saneClock is a time that is past: a clock before it has never been set, and
// says nothing about what has expired.
var saneClock = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)

// OpenOAuth reads the keys.
func OpenOAuth(f OAuthFiles, log *slog.Logger) (*OAuth, error) {
	if f.Claim == "" {
		f.Claim = "sub"
	}
	keys, err := secret.Reload(log, f.load, f.JWKS)
	if err != nil {
		return nil, err
	}
	return &OAuth{files: f, keys: keys, now: time.Now}, nil
}

func (f OAuthFiles) load() (*jose.JSONWebKeySet, error) {
	text, err := os.ReadFile(f.JWKS)
	if err != nil {
		return nil, fmt.Errorf("read token keys: %v", err)
	}
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(text, &set); err != nil {
		return nil, fmt.Errorf("read token keys %s: %v", f.JWKS, err)
	}
	for i, k := range set.Keys {
		if !k.Valid() {
			return nil, fmt.Errorf("read token keys %s: key %d is not valid", f.JWKS, i)
		}
		if _, secret := k.Key.([]byte); secret {
			return nil, fmt.Errorf("read token keys %s: key %d is a shared secret; want public keys", f.JWKS, i)
		}
		set.Keys[i] = k.Public() // a private one is for its issuer only
	}
	if len(set.Keys) == 0 {
		return nil, fmt.Errorf("read token keys: %s holds none", f.JWKS)
	}
	return &set, nil
}

// verify says who a token is of.
func (o *OAuth) verify(token string) (*Identity, error) {
	now := o.now()
	if now.Before(saneClock) {
		return nil, fmt.Errorf("tokens cannot be judged: the box's clock says %s and has not been set", now.UTC().Format(time.RFC3339))
	}
	if len(token) > longestToken {
		return nil, fmt.Errorf("token of %d bytes, at most %d are taken", len(token), longestToken)
	}
	parsed, err := jwt.ParseSigned(token, signatures)
	if err != nil {
		return nil, fmt.Errorf("read a token: %v", err)
	}
	var claims jwt.Claims
	var all map[string]any
	if err := o.claims(parsed, &claims, &all); err != nil {
		return nil, err
	}
	return o.judge(now, claims, all)
}

// claims verifies a token's signature and reads it. A token that names no key
// may be of any.
func (o *OAuth) claims(t *jwt.JSONWebToken, dest ...any) error {
	keys := o.keys.Get()
	kid := ""
	if len(t.Headers) > 0 {
		kid = t.Headers[0].KeyID
	}
	candidates := keys.Keys
	if kid != "" {
		if candidates = keys.Key(kid); len(candidates) == 0 {
			return fmt.Errorf("token is signed with key %q, which is not among the keys", kid)
		}
	}
	err := errors.New("there are no keys")
	for _, k := range candidates {
		if err = t.Claims(k.Key, dest...); err == nil {
			return nil
		}
	}
	return fmt.Errorf("verify a token: %v", err)
}

func (o *OAuth) judge(now time.Time, claims jwt.Claims, all map[string]any) (*Identity, error) {
	if claims.Expiry == nil {
		return nil, errors.New("token does not say when it expires")
	}
	err := claims.ValidateWithLeeway(jwt.Expected{Issuer: o.files.Issuer, AnyAudience: o.files.Audience, Time: now}, leeway)
	switch {
	case errors.Is(err, jwt.ErrIssuedInTheFuture), errors.Is(err, jwt.ErrNotValidYet):
		return nil, fmt.Errorf("%v: the box's clock says %s; is it set?", err, now.UTC().Format(time.RFC3339))
	case err != nil:
		return nil, fmt.Errorf("token of %q, issuer %q, audience %v: %v", claims.Subject, claims.Issuer, claims.Audience, err)
	}
	user, ok := all[o.files.Claim].(string)
	if !ok || user == "" {
		return nil, fmt.Errorf("token has no claim %q with a name in it", o.files.Claim)
	}
	return &Identity{User: user, Expires: claims.Expiry.Time()}, nil
}

// oauthTalk is RFC 7628. A bad token is answered with a reason, after which
// the client sends one byte more before it is refused (section 3.2.3).
type oauthTalk struct {
	oauth *OAuth
	bad   error
}

const badToken = `{"status":"invalid_token"}`

func (t *oauthTalk) Next(message []byte) ([]byte, *Identity, error) {
	if t.bad != nil {
		return nil, nil, t.bad
	}
	as, token, err := bearer(message)
	if err != nil {
		return nil, nil, err
	}
	who, err := t.oauth.verify(token)
	if err == nil && as != "" && as != who.User {
		return nil, nil, fmt.Errorf("user %q asks to act as %q", who.User, as)
	}
	if err != nil {
		t.bad = err
		return []byte(badToken), nil, nil
	}
	return nil, who, nil
}

// bearer reads n,a=user,^Aauth=Bearer token^A^A, with further pairs.
func bearer(message []byte) (as, token string, err error) {
	header, rest, ok := bytes.Cut(message, []byte{1})
	parts := strings.Split(string(header), ",")
	if !ok || len(parts) != 3 || parts[0] != "n" {
		return "", "", errors.New("an OAUTHBEARER message begins with n,,")
	}
	as = strings.TrimPrefix(parts[1], "a=")
	for pair := range bytes.SplitSeq(rest, []byte{1}) {
		value, ok := strings.CutPrefix(string(pair), "auth=")
		if !ok {
			continue
		}
		scheme, token, ok := strings.Cut(value, " ")
		if ok && strings.EqualFold(scheme, "Bearer") && token != "" {
			return as, strings.TrimSpace(token), nil
		}
	}
	return "", "", errors.New("an OAUTHBEARER message holds auth=Bearer and a token")
}
